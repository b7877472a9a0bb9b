_base_ = [
    '../_base_/datasets/imagenet.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='l',
        img_size=224,
        patch_size=16,
        drop_rate=0.1,
    ),
    neck=None,
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
# 64 GPUs x 64 images; the schedule of mmpretrain's ViT-L, without its
# augmentation.
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(type='AdamW', lr=0.003, weight_decay=0.3),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        begin=0,
        end=30,
        convert_to_iter_based=True,
    ),
    dict(type='CosineAnnealingLR', begin=30, end=300, eta_min=1e-5),
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=4096)
