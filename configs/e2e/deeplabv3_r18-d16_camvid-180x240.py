# For machines without a GPU: half the resolution, output stride 16, bfloat16,
# a schedule of about ten epochs.
_base_ = './deeplabv3_r18_camvid.py'
norm_cfg = dict(type='BN', requires_grad=True)
crop_size = (176, 240)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), norm_cfg=norm_cfg
    ),
    decode_head=dict(dilations=(1, 3, 6, 9), norm_cfg=norm_cfg),
    auxiliary_head=dict(norm_cfg=norm_cfg),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(240, 180),
        ratio_range=(0.75, 1.5),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(240, 180), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
# Of MMLocal because mmengine's AmpOptimWrapper asserts an accelerator.
optim_wrapper = dict(
    _delete_=True,
    type='mmlocal.LocalAmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.01),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-6, by_epoch=False)
]
train_cfg = dict(max_iters=500, val_interval=250)
default_hooks = dict(logger=dict(interval=25), checkpoint=dict(interval=250))
