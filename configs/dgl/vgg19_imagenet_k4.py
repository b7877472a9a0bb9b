_base_ = '../e2e/vgg19_imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.PublishedSplit', name='dgl/vgg19-k4'),
        local_heads=dict(
            type='mmlocal.DGLHead',
            num_classes=1000,
            init_cfg=[
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Normal', layer='Linear', std=0.01),
            ],
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmlocal.LocalLossHook'),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
