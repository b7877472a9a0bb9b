_base_ = './cifar10_layerwise.py'
data_root = 'data/cifar100'
dataset = dict(type='mmlocal.CIFAR100', data_root=data_root)
data_preprocessor = dict(
    num_classes=100,
    mean=[129.3105, 124.1085, 112.404],
    std=[68.2125, 65.4075, 70.4055],
)
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
