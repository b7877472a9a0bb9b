_base_ = [
    '../_base_/models/convnet_cifar.py',
    '../_base_/datasets/cifar10_dgl.py',
    '../_base_/schedules/cifar_step_50e.py',
    '../_base_/default_runtime_cls.py',
]
