_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/cosine_160e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=110))
