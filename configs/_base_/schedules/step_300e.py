# Of the comparison of DGL with DDG, with a new optimizer at each drop.
milestones = [150, 225]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [dict(type='MultiStepLR', milestones=milestones, gamma=0.1)]
custom_hooks = [
    dict(type='mmlocal.ResetOptimizerStateHook', milestones=milestones)
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
