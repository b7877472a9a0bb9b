optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.4, momentum=0.9, nesterov=True, weight_decay=1e-4
    ),
)
# lr / 2 (1 + cos(pi e / 90)) for e = 0..89, no warm-up.
param_scheduler = [dict(type='CosineAnnealingLR', T_max=90)]
train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
