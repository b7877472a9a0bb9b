_base_ = './deeplabv3_r18_shapes.py'
# Local heads of less compute, and losses at full resolution for one image at
# a time.
model = dict(
    backbone=dict(local_heads=dict(preset='segmentation_lean')),
    decode_head=dict(type='mmlocal.ImagewiseASPPHead'),
)
