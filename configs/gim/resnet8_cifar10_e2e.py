_base_ = './resnet8_cifar10.py'
# The loss of the last module alone, through the whole network.
model = dict(backbone=dict(boundaries=[]))
