# The trade-off in small: all in a twentieth of the epochs, 10 and 5.
_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10_6.py',
    '../_base_/schedules/ctc_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    type='mmlocal.CTCClassifier',
    backbone=dict(depth=20),
    head=dict(
        type='mmlocal.CTCHead',
        num_classes=6,
        num_images=30000,
        num_negatives=8192,
        preset='transferability',
    ),
)
param_scheduler = [
    dict(type='mmlocal.SegmentCosineLR', begin=0, end=10),
    dict(type='mmlocal.SegmentCosineLR', begin=10, end=15, factor=0.1),
]
custom_hooks = [
    dict(type='mmlocal.CTCStageHook', switch_epoch=10, weight_decay_factor=2.0)
]
train_cfg = dict(max_epochs=15)
# Those of all epochs, for the curve of transfer.
default_hooks = dict(checkpoint=dict(save_best=None, max_keep_ckpts=-1))
