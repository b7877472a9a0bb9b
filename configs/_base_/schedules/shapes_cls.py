optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    ),
)
param_scheduler = [
    dict(type='mmlocal.WarmupCosineLR', warmup=1, warmup_lr=0.01)
]
train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=4)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
