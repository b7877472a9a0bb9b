_base_ = '../e2e/resnet152_imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=dict(
            type='mmlocal.PublishedSplit', name='infopro/resnet152'
        ),
        local_heads=dict(
            type='mmlocal.InfoProHead',
            preset='imagenet',
            task='softmax',
            num_classes=1000,
            recon_weight=5.0,
            task_weight=1.0,
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    dict(type='mmlocal.LocalLossHook'),
    dict(type='mmlocal.LocalVisualizationHook', interval=10),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
