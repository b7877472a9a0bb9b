_base_ = '../e2e/resnet110_cifar10_300e.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(
            type='mmlocal.PublishedSplit', name='dgl/resnet110-k2'
        ),
        local_heads=dict(type='mmlocal.DGLHead', num_classes=10),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmlocal.LocalLossHook'),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
