_base_ = '../greedy/resnet32_cifar10_k16.py'
model = dict(
    backbone=dict(local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr'))
)
