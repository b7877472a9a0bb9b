_base_ = '../e2e/vit-large-p16_imagenet.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=['layers.6', 'layers.12', 'layers.18'],
        local_heads=dict(
            type='mmlocal.GreedyHead', net='linear', num_classes=1000
        ),
    )
)
optim_wrapper = dict(type='mmlocal.LocalAmpOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Each GPU keeps a part of the weights; read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalFSDP', param_dtype='bf16')
