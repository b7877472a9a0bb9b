_base_ = '../greedy/resnet110_cifar10_k4.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
