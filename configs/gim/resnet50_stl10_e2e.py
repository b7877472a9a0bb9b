_base_ = './resnet50_stl10.py'
# The loss of the last module alone, through the whole network.
model = dict(backbone=dict(boundaries=[]))
