_base_ = './convnet6-buffer_cifar10_k6_async_m30.py'
# Noise of 1/6 in the paper's words.
train_cfg = dict(sampler=dict(slow=dict(module=3, factor=1.2)))
