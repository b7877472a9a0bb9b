# Greedy InfoMax's, at a constant rate.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=2e-4))
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
