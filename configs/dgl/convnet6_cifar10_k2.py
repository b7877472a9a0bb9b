_base_ = './convnet6_cifar10_k6.py'
# 3 blocks a module.
model = dict(backbone=dict(boundaries=dict(num_modules=2)))
