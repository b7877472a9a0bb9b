_base_ = './resnet8_cifar10_sequential.py'
# 4.7 GiB of features of the first module, 2.3 GiB of the second.
train_cfg = dict(cache=dict(as_drawn=True, dtype='float16'))
