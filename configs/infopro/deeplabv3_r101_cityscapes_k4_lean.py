_base_ = './deeplabv3_r101_cityscapes_lean.py'
# A fifth of the memory of end to end.
model = dict(
    backbone=dict(
        boundaries=['layer3.0', 'layer3.12', 'layer4.0'],
        checkpointing='block',
    )
)
