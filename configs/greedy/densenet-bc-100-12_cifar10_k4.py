_base_ = './densenet-bc-100-12_cifar10_k2.py'
model = dict(backbone=dict(boundaries=dict(num_modules=4)))
