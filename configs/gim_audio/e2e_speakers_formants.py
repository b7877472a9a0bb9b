_base_ = [
    '../_base_/models/cpc-audio.py',
    '../_base_/datasets/formant_speech.py',
    '../_base_/schedules/cpc_1000e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    backbone=dict(channels=32, context_channels=32),
    head=dict(num_classes=20, in_channels=32),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_epochs=3, val_interval=3)
default_hooks = dict(checkpoint=dict(interval=3), logger=dict(interval=10))
randomness = dict(seed=0)
