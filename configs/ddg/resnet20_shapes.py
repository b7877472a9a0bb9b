_base_ = '../e2e/resnet20_shapes.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EqualDepth', num_modules=2),
        local_heads=[],
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
train_cfg = dict(
    _delete_=True,
    type='mmlocal.DelayedGradientTrainLoop',
    max_epochs=8,
    val_interval=4,
)
