# The baseline of the trade-off in small: as many epochs as CTC has there.
_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10_6.py',
    '../_base_/schedules/ctc_baseline_200e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=20), head=dict(num_classes=6))
# No warm-up: a fortieth of 15 epochs is none.
param_scheduler = [
    dict(type='mmlocal.SegmentCosineLR', warmup=0, min_ratio=0.1)
]
train_cfg = dict(max_epochs=15)
# Those of all epochs, for the curve of transfer.
default_hooks = dict(checkpoint=dict(save_best=None, max_keep_ckpts=-1))
