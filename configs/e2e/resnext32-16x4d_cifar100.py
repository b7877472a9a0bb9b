_base_ = [
    '../_base_/models/resnext_cifar.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/ctc_baseline_200e.py',
    '../_base_/default_runtime_cls.py',
]
