_base_ = './resnet8_cifar10.py'
# As many epochs for each module as there for all.
train_cfg = dict(_delete_=True, type='mmlocal.SequentialTrainLoop', epochs=4)
