# Half the width, 6,000 small batches of CIFAR-10 in gray (colours give away
# which patches are of one image), for CPUs; and a linear probe of the three
# stages of each net, before and after.
is_cut = 'boundaries' in _base_.model.backbone
narrow = dict(backbone=dict(base_channels=8))
model = dict(
    backbone=dict(backbone=narrow) if is_cut else narrow,
    head=dict(in_channels=32),
)
gray = dict(
    type='RandomGrayscale',
    prob=1.0,
    keep_channels=True,
    channel_weights=(0.299, 0.587, 0.114),
)
*augmented, pack = _base_.train_pipeline
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=6000,
    val_begin=100000,
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=[*augmented, gray, pack]),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(pipeline=[gray, pack]),
)
custom_hooks = [
    *_base_.get('custom_hooks', []),
    dict(
        type='mmlocal.ModuleMeasureHook',
        measures=[dict(type='LinearProbe', num_images=10000)],
        boundaries=['backbone.stages.1', 'backbone.stages.2'],
        interval=6000,
        by_epoch=False,
    ),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=1000, save_best=None),
    logger=dict(interval=50),
)
log_processor = dict(by_epoch=False)
