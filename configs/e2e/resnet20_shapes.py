_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/shapes_cls.py',
    '../_base_/schedules/shapes_cls.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=20), head=dict(num_classes=5))
randomness = dict(seed=0)
