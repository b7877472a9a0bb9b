_base_ = '../e2e/unet-s5-d16_camvid.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=['encoder.1.1', 'decoder.0'],
        local_heads=dict(
            type='mmlocal.GreedyHead',
            net='segmentation',
            num_classes=11,
            norm_cfg=dict(type='SyncBN'),
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [
    dict(type='mmlocal.LocalLossHook'),
    dict(type='mmlocal.LocalVisualizationHook'),
]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
