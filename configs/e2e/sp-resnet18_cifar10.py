_base_ = './sp-cnn_cifar10.py'
model = dict(
    backbone=dict(_delete_=True, type='mmlocal.SigPropResNet', depth=18),
    head=dict(in_channels=512),
)
