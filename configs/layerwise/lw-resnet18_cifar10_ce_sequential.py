_base_ = './lw-resnet18_cifar10_ce.py'
# 50 epochs for each of the nine layers, and for the classifier, at a constant
# rate.
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=50,
    head_epochs=50,
)
param_scheduler = []
