_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10_layerwise.py',
    '../_base_/schedules/adam_step_400e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(type='mmlocal.LayerwiseResNet', depth=18),
    head=dict(in_channels=512),
)
