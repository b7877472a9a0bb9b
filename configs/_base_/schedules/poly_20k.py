_base_ = './poly_40k.py'
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, end=20001, by_epoch=False)
]
train_cfg = dict(max_iters=20000, val_interval=2000)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
