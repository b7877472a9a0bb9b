_base_ = './resnet20_shapes_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='predsim')))
