_base_ = './lw-vgg11b_cifar100_ce.py'
model = dict(backbone=dict(local_heads=dict(loss='similarity')))
