# Forward-Forward's: at a constant rate.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.03))
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
