_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/step_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=110, shortcut='pad'))
