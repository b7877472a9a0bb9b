# No weights are released for softmax: these are those of contrast.
_base_ = './resnet110_stl10_k4_contrast.py'
model = dict(backbone=dict(local_heads=dict(task='softmax')))
