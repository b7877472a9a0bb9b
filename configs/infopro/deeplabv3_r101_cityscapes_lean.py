_base_ = './deeplabv3_r101_cityscapes.py'
# In less memory and compute: a local head of a quarter of the cost, and losses
# at full resolution for one image at a time.
model = dict(
    backbone=dict(local_heads=dict(preset='segmentation_lean')),
    decode_head=dict(type='mmlocal.ImagewiseASPPHead'),
    auxiliary_head=dict(type='mmlocal.ImagewiseFCNHead'),
)
