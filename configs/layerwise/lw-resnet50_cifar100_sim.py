_base_ = './lw-resnet50_cifar100_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='similarity')))
