_base_ = './deeplabv3_r18_shapes.py'
# A local head behind each block, the last one too; the decode head reads it
# and trains nothing but itself.
model = dict(
    backbone=dict(
        boundaries=dict(type='mmlocal.EachBlock', _delete_=True),
        local_end=True,
    )
)
