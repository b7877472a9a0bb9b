_base_ = 'resnet_cifar.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.CIFARWideResNet',
        depth=28,
        widen_factor=4,
    ),
    head=dict(num_classes=100, in_channels=256),
)
