_base_ = './ff_mlp_mnist_avgmix.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=10,
    val_interval=10,
)
