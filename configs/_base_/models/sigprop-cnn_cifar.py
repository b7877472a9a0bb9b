_base_ = './resnet_cifar.py'
model = dict(
    backbone=dict(_delete_=True, type='mmlocal.SigPropConvNet'),
    head=dict(in_channels=128),
)
