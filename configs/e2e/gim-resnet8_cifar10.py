_base_ = [
    '../_base_/models/gim-resnet8_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/gim_300e.py',
    '../_base_/default_runtime_cls.py',
]
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=4)
