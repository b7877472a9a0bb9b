_base_ = 'resnext32-16x4d_cifar100_transferability.py'
model = dict(head=dict(preset='discriminability'))
