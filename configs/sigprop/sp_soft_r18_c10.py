_base_ = '../e2e/sp-resnet18_cifar10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=[
            'layers.1',
            'layers.2',
            'layers.3',
            'layers.4',
            'layers.5',
            'layers.6',
            'layers.7',
            'layers.8',
        ],
        local_heads=dict(
            type='mmlocal.SigPropHead', num_classes=10, target='soft'
        ),
        local_end=True,
        input_shape=(3, 32, 32),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
