_base_ = './deeplabv3_r101_cityscapes.py'
crop_size = (640, 1280)
train_pipeline = _base_.train_pipeline
train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.015))
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(local_heads=dict(recon_weight=2.0)),
)
