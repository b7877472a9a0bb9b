_base_ = './sp-cnn_cifar10.py'
model = dict(
    backbone=dict(_delete_=True, type='mmlocal.SigPropVGG', arch='vgg8b'),
    head=dict(in_channels=1024),
)
