_base_ = '../e2e/resnet20_shapes.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EqualDepth', num_modules=2),
        local_heads=dict(
            type='mmlocal.InfoProHead',
            preset='cifar',
            task='softmax',
            num_classes=5,
            recon_weight=1.0,
            task_weight=1.0,
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    dict(type='mmlocal.LocalLossHook'),
    dict(type='mmlocal.LocalVisualizationHook'),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
