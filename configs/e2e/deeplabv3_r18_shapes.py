_base_ = [
    '../_base_/models/deeplabv3_r18-d8.py',
    '../_base_/datasets/shapes_seg.py',
    '../_base_/schedules/shapes_seg.py',
    '../_base_/default_runtime_seg.py',
]
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    # A quarter of the usual width: it trains in minutes on a CPU.
    backbone=dict(stem_channels=32, base_channels=16),
    decode_head=dict(
        in_channels=128,
        channels=64,
        dilations=(1, 3, 6, 9),
        num_classes=6,
    ),
    auxiliary_head=None,
)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=400))
randomness = dict(seed=0)
