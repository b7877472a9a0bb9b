# DGL's: a tenth every ten epochs, with a new optimizer.
milestones = [10, 20, 30, 40]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [dict(type='MultiStepLR', milestones=milestones, gamma=0.1)]
custom_hooks = [
    dict(type='mmlocal.ResetOptimizerStateHook', milestones=milestones)
]
train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
val_cfg = dict()
test_cfg = dict()
