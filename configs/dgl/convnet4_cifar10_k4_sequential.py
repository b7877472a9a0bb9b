_base_ = './convnet4_cifar10_k4.py'
# As many epochs for each module as the parallel config has for all.
train_cfg = dict(
    _delete_=True, type='mmlocal.SequentialTrainLoop', epochs=50
)
# While a module trains, its own head is what is validated.
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
