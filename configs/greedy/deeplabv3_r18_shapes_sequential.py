_base_ = './deeplabv3_r18_shapes.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialIterTrainLoop',
    iters=400,
    val_interval=400,
)
