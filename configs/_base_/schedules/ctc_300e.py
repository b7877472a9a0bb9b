# Two stages of 200 and 100 epochs, in batches of 64, with a warm restart; the
# first has twice the weight decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='mmlocal.SegmentCosineLR', begin=0, end=200),
    dict(type='mmlocal.SegmentCosineLR', begin=200, end=300, factor=0.1),
]
custom_hooks = [
    dict(
        type='mmlocal.CTCStageHook', switch_epoch=200, weight_decay_factor=2.0
    )
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
# Each stage has weights that the other leaves alone.
find_unused_parameters = True
