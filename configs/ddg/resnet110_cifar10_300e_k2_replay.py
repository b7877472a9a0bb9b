_base_ = './resnet110_cifar10_300e_k2.py'
# Features replay: a module runs again with the weights of today.
train_cfg = dict(keep='input')
