_base_ = '../greedy/resnet110_svhn_k16.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
