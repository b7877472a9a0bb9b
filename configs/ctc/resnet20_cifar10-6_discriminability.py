_base_ = 'resnet20_cifar10-6_transferability.py'
model = dict(head=dict(preset='discriminability'))
