_base_ = '../e2e/dni-convnet_cifar10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.EqualDepth', num_modules=3),
        local_heads=dict(
            type='mmlocal.DGLHead', net='synthesizer', num_classes=10
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
train_cfg = dict(max_epochs=1500)
