_base_ = './vgg13_imagenet_k10.py'
model = dict(backbone=dict(boundaries=dict(name='dgl/vgg13-k4')))
