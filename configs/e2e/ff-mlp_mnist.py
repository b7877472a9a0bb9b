_base_ = [
    '../_base_/models/ff-mlp.py',
    '../_base_/datasets/mnist.py',
    '../_base_/schedules/adam_10e.py',
    '../_base_/default_runtime_cls.py',
]
