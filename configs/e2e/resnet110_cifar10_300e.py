_base_ = [
    '../_base_/models/resnet_cifar.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/step_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=110))
# DGL's normalization, batch size and padding (with zeros).
data_preprocessor = dict(
    mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]
)
train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
