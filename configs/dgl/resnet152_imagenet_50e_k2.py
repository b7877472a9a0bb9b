_base_ = '../e2e/resnet152_imagenet_50e.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(
            type='mmlocal.PublishedSplit', name='dgl/resnet152-k2'
        ),
        local_heads=dict(
            type='mmlocal.DGLHead',
            num_classes=1000,
            # The authors' code counts half of the 14 cells.
            side=7,
            init_cfg=dict(type='Kaiming', layer='Conv2d'),
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
