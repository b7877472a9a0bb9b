_base_ = '../e2e/resnet20_shapes.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EachBlock'),
        local_heads=dict(type='mmlocal.LayerwiseHead', num_classes=5),
        local_end=True,
        input_shape=(3, 32, 32),
    )
)
# The twin's rate, 0.1, is too high for local heads that pool to 2048 values.
optim_wrapper = dict(
    type='mmlocal.LocalOptimWrapper',
    optimizer=dict(_delete_=True, type='Adam', lr=1e-3),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[6], gamma=0.2)]
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
