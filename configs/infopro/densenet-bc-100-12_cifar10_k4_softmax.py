_base_ = './densenet-bc-100-12_cifar10_k4_contrast.py'
model = dict(backbone=dict(local_heads=dict(task='softmax')))
