_base_ = './lw-resnet50_cifar10_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='predsim')))
