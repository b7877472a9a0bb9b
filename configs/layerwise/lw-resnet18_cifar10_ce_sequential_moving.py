_base_ = './lw-resnet18_cifar10_ce_sequential.py'
# As published: the statistics of finished layers move on, and their dropout
# stays active.
train_cfg = dict(moving_statistics=True)
