_base_ = '../greedy/deeplabv3_r18_shapes.py'
# A classifier of pixels behind each block; the decode head reads the last one
# and trains nothing but itself.
model = dict(
    backbone=dict(
        boundaries=dict(type='mmlocal.EachBlock', _delete_=True),
        local_heads=dict(
            _delete_=True,
            type='mmlocal.LayerwiseHead',
            num_classes=6,
            ignore_index=255,
        ),
        local_end=True,
    )
)
