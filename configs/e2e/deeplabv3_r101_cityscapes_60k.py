_base_ = './deeplabv3_r101_cityscapes.py'
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, end=60001, by_epoch=False)
]
train_cfg = dict(max_iters=60000)
