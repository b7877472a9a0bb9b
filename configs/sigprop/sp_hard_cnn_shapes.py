_base_ = '../e2e/sp-cnn_shapes.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=['layers.1', 'layers.2', 'layers.3'],
        local_heads=dict(
            type='mmlocal.SigPropHead',
            num_classes=5,
            image_size=24,
            target='hard',
        ),
        local_end=True,
        input_shape=(3, 24, 24),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
