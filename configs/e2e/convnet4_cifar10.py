_base_ = [
    '../_base_/models/convnet_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/cifar_step_50e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(depth=4, base_channels=64),
    head=dict(in_channels=1024, mid_channels=[1024, 1024]),
)
