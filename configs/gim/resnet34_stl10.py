_base_ = './resnet50_stl10.py'
model = dict(
    backbone=dict(backbone=dict(backbone=dict(depth=34))),
    head=dict(in_channels=256),
)
