_base_ = './vgg19_imagenet_k4.py'
model = dict(backbone=dict(boundaries=dict(name='dgl/vgg19-k2')))
