_base_ = './resnet_cifar.py'
model = dict(
    backbone=dict(
        _delete_=True, type='mmlocal.CIFARDenseNet', depth=100, growth_rate=12
    ),
    head=dict(in_channels=342),
)
