_base_ = '../greedy/resnet20_shapes.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
