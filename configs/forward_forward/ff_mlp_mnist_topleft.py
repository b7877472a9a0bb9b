_base_ = '../e2e/ff-mlp_mnist.py'
# As published, the last layer has a unit a class, and learns as the others do.
model = dict(
    _delete_=True,
    _scope_='mmpretrain',
    type='mmlocal.FFClassifier',
    embedding=dict(method='top-left', num_classes=10),
    backbone=dict(
        type='mmlocal.LocalSupervisedBackbone',
        backbone=dict(
            type='mmlocal.FFMLP',
            in_features=784,
            widths=[1000, 1000, 1000, 1000, 10],
        ),
        boundaries=['layers.1', 'layers.2', 'layers.3', 'layers.4'],
        local_heads=dict(type='mmlocal.FFHead', num_classes=10, theta=2.0),
        local_end=True,
        input_shape=(1, 28, 28),
    ),
)
# Each layer is updated before the next one gets its output.
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper', step='module')
custom_hooks = [
    dict(type='mmlocal.LocalLossHook'),
    dict(type='mmlocal.ClassPrototypeHook'),
]
# The model sums up what its layers say.
val_cfg = dict(ensemble=None)
test_cfg = dict(ensemble=None)
