# One epoch of CIFAR-10 in bfloat16, for CPUs; the same for every method.
train_cfg = dict(max_epochs=1)
train_dataloader = dict(batch_size=64, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
optim_wrapper = dict(
    type='mmlocal.LocalAmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(lr=0.1),
)
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=0.1,
        total_steps=782,
        pct_start=0.2,
        by_epoch=False,
    )
]
default_hooks = dict(checkpoint=dict(save_best=None))
