optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.8, momentum=0.9, nesterov=True, weight_decay=1e-4
    ),
)
# Ten epochs of warm-up from 0.01; ends at 0. Follows max_epochs.
param_scheduler = [
    dict(type='mmlocal.WarmupCosineLR', warmup=10, warmup_lr=0.01)
]
train_cfg = dict(by_epoch=True, max_epochs=160, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
