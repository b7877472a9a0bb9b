_base_ = './resnet20_shapes.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=4,
    val_interval=4,
)
