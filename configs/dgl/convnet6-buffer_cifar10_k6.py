_base_ = '../e2e/convnet6-buffer_cifar10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EqualDepth', num_modules=6),
        local_heads=dict(type='mmlocal.DGLHead', net='buffer', num_classes=10),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmlocal.LocalLossHook'),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
