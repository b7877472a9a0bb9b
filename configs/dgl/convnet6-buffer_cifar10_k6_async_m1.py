_base_ = './convnet6-buffer_cifar10_k6_async_m30.py'
train_cfg = dict(buffer=dict(size=1))
