_base_ = './resnet20_shapes.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.ReplayTrainLoop',
    max_epochs=8,
    val_interval=4,
    buffer=dict(size=5),
    sampler=dict(slow=dict(module=1, factor=1.2)),
)
