_base_ = './lw-resnet18_cifar100_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='similarity')))
