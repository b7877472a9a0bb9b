# Half the width, 1,500 small batches of CIFAR-10, for CPUs; and a linear probe
# of the three stages of each net, before and after, on a part of the images.
is_cut = 'boundaries' in _base_.model.backbone
narrow = dict(backbone=dict(base_channels=8))
model = dict(
    backbone=dict(backbone=narrow) if is_cut else narrow,
    head=dict(in_channels=32),
)
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=1500,
    val_begin=10000,
)
train_dataloader = dict(batch_size=64, num_workers=0, persistent_workers=False)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(indices=[*range(0, 10000, 4)]),
)
custom_hooks = [
    *_base_.get('custom_hooks', []),
    dict(
        type='mmlocal.ModuleMeasureHook',
        measures=[dict(type='LinearProbe', num_images=5000)],
        boundaries=['backbone.stages.1', 'backbone.stages.2'],
        interval=1500,
        by_epoch=False,
    ),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=500, save_best=None),
    logger=dict(interval=50),
)
log_processor = dict(by_epoch=False)
