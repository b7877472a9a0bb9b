_base_ = [
    '../_base_/models/wide-resnet_cifar.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/ctc_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    type='mmlocal.CTCClassifier',
    head=dict(
        type='mmlocal.CTCHead', num_images=50000, preset='transferability'
    ),
)
