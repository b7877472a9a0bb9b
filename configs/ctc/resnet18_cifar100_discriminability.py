_base_ = 'resnet18_cifar100_transferability.py'
model = dict(head=dict(preset='discriminability'))
