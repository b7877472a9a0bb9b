_base_ = '../greedy/resnet32_cifar10_k4.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
