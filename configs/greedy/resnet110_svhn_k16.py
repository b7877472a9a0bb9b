_base_ = './resnet110_svhn_k2.py'
model = dict(backbone=dict(boundaries=dict(name='infopro/resnet110-k16')))
