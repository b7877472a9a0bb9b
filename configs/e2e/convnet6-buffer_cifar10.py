_base_ = [
    '../_base_/models/convnet_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/cifar_buffer_51e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(downsample=(2, 4), conv_bias=False),
    head=dict(mid_channels=[2048, 2048, 2048]),
)
train_dataloader = dict(drop_last=True)
