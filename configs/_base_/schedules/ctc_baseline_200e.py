# What contrastive temporal coding is compared with: batches of 64.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4),
)
# Five epochs of warm-up; ends at a tenth.
param_scheduler = [
    dict(type='mmlocal.SegmentCosineLR', warmup=5, min_ratio=0.1)
]
train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
