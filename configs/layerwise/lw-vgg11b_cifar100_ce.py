_base_ = '../e2e/lw-vgg11b_cifar100.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EachBlock'),
        local_heads=dict(type='mmlocal.LayerwiseHead', num_classes=100),
        local_end=True,
        input_shape=(3, 32, 32),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
