_base_ = '../greedy/resnet110_stl10_k8.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
