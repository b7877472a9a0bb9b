_base_ = './lw-vgg11b_cifar10_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='similarity')))
