_base_ = '../e2e/resnet110_cifar10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(
            type='mmlocal.PublishedSplit', name='infopro/resnet110-k2'
        ),
        local_heads=dict(
            type='mmlocal.InfoProHead',
            preset='cifar',
            task='contrast',
            num_classes=10,
            recon_weight=5.0,
            task_weight=0.5,
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    dict(type='mmlocal.LocalLossHook'),
    dict(type='mmlocal.LocalVisualizationHook', interval=10),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
