_base_ = './convnet4_cifar10_k4.py'
# As many epochs for each module as there for all.
train_cfg = dict(_delete_=True, type='mmlocal.SequentialTrainLoop', epochs=50)
