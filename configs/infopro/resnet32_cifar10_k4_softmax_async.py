_base_ = './resnet32_cifar10_k4_softmax.py'
train_cfg = dict(
    _delete_=True,
    type='mmlocal.ReplayTrainLoop',
    max_epochs=160,
    buffer=dict(size=1),
)
