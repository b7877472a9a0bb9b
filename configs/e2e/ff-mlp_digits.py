_base_ = [
    '../_base_/models/ff-mlp.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/adam_10e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(in_features=64, widths=[500, 500]),
    head=dict(in_channels=500),
)
train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=80, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20), logger=dict(interval=20))
randomness = dict(seed=0)
