# E2E-info's: a fifth after 200, 300, 350 and 375 epochs.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=5e-4))
param_scheduler = [
    dict(type='MultiStepLR', milestones=[200, 300, 350, 375], gamma=0.2)
]
train_cfg = dict(by_epoch=True, max_epochs=400, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
