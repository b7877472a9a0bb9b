# The source of the trade-off in small: six classes of CIFAR-10, 30,000 images
# to train on and 6,000 to test. The target is cifar10_4.py.
_base_ = 'cifar10.py'
classes = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog')
data_preprocessor = dict(num_classes=6)
train_dataloader = dict(batch_size=128, dataset=dict(classes=classes))
val_dataloader = dict(dataset=dict(classes=classes))
test_dataloader = dict(dataset=dict(classes=classes))
