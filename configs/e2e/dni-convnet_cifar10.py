_base_ = [
    '../_base_/models/dni-convnet_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/adam_2000e.py',
    '../_base_/default_runtime_cls.py',
]
train_dataloader = dict(batch_size=256)
