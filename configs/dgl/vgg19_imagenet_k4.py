_base_ = '../e2e/vgg19_imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(type='mmlocal.PublishedSplit', name='dgl/vgg19-k4'),
        local_heads=dict(
            type='mmlocal.DGLHead', net='mlp-sr', num_classes=1000
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
