_base_ = './convnet6_cifar10_k6.py'
model = dict(backbone=dict(local_heads=dict(net='mlp')))
