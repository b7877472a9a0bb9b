_base_ = 'resnet_cifar.py'
model = dict(
    # ResNeXt32-16x4d.
    backbone=dict(_delete_=True, type='mmlocal.CIFARResNeXt'),
    head=dict(num_classes=100, in_channels=512),
)
