_base_ = './ff_mlp_digits.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=40,
    val_interval=20,
)
