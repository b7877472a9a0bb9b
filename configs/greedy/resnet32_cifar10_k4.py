_base_ = './resnet32_cifar10_k2.py'
model = dict(backbone=dict(boundaries=dict(name='infopro/resnet32-k4')))
