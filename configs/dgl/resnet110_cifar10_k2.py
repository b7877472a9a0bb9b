_base_ = '../greedy/resnet110_cifar10_k2.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
