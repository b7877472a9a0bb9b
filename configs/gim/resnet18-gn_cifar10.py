_base_ = './resnet8_cifar10.py'
# Any backbone that takes images of 8 pixels: the first three stages of
# mmpretrain's ResNet-18 for CIFAR. Norms within a patch, since BatchNorm would
# tell of the others.
model = dict(
    backbone=dict(
        backbone=dict(
            backbone=dict(
                _delete_=True,
                type='ResNet_CIFAR',
                depth=18,
                num_stages=3,
                strides=(1, 2, 2),
                dilations=(1, 1, 1),
                out_indices=(2,),
                norm_cfg=dict(type='GN', num_groups=32),
            ),
        ),
        boundaries=['backbone.layer2', 'backbone.layer3'],
    ),
    head=dict(in_channels=256),
)
