# Four epochs of CIFAR-10 in bfloat16, for CPUs; the same for every method. A
# checkpoint an epoch is kept, for the analysis of its modules.
train_cfg = dict(max_epochs=4)
train_dataloader = dict(
    batch_size=256, num_workers=0, persistent_workers=False
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
optim_wrapper = dict(
    type='mmlocal.LocalAmpOptimWrapper',
    dtype='bfloat16',
    optimizer=dict(lr=0.2),
)
param_scheduler = [
    dict(
        type='OneCycleLR',
        eta_max=0.2,
        total_steps=784,
        pct_start=0.2,
        by_epoch=False,
    )
]
default_hooks = dict(
    checkpoint=dict(save_best=None, max_keep_ckpts=-1),
    logger=dict(interval=20),
)
