_base_ = [
    '../_base_/models/sigprop-cnn_cifar.py',
    '../_base_/datasets/cifar10_e2e-info.py',
    '../_base_/schedules/adam_400e.py',
    '../_base_/default_runtime_cls.py',
]
