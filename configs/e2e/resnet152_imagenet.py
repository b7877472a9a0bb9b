_base_ = './resnet101_imagenet.py'
model = dict(backbone=dict(depth=152))
