_base_ = './convnet4_cifar10_k4_sequential.py'
# 6.1 GiB of features of the first module, 3.1 GiB of the others.
train_cfg = dict(cache=dict(as_drawn=True, dtype='float16'))
