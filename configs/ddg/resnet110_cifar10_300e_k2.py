_base_ = '../e2e/resnet110_cifar10_300e.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(
            type='mmlocal.PublishedSplit', name='dgl/resnet110-k2'
        ),
        # Modules have no loss of their own.
        local_heads=[],
    )
)
optim_wrapper = dict(
    type='mmlocal.LocalOptimWrapper', optimizer=dict(nesterov=True)
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmlocal.LocalLossHook'),
]
train_cfg = dict(
    _delete_=True,
    type='mmlocal.DelayedGradientTrainLoop',
    max_epochs=300,
    val_interval=1,
)
