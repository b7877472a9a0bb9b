_base_ = 'resnet_cifar.py'
model = dict(
    backbone=dict(_delete_=True, type='ResNet_CIFAR', depth=18),
    head=dict(num_classes=100, in_channels=512),
)
