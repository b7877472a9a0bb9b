# No weights are released for softmax: these are those of contrast.
_base_ = './resnet110_svhn_k8_contrast.py'
model = dict(backbone=dict(local_heads=dict(task='softmax')))
