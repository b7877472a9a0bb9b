_base_ = 'wrn-28-4_cifar100_transferability.py'
model = dict(head=dict(preset='discriminability'))
