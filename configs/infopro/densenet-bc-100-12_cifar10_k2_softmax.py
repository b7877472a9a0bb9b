_base_ = './densenet-bc-100-12_cifar10_k2_contrast.py'
model = dict(backbone=dict(local_heads=dict(task='softmax')))
