_base_ = [
    '../_base_/models/gim-resnet50.py',
    '../_base_/datasets/stl10_gim_rgb.py',
    '../_base_/schedules/gim_300e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(backbone=dict(in_channels=3)))
