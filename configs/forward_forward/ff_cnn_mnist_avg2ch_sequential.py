_base_ = './ff_cnn_mnist_avg2ch.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=10,
    val_interval=10,
)
