_base_ = './resnet110_stl10_k2.py'
model = dict(backbone=dict(boundaries=dict(name='infopro/resnet110-k4')))
