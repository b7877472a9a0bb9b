_base_ = '../e2e/gim-resnet50_stl10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=['backbone.stages.1', 'backbone.stages.2'],
        local_heads=dict(type='mmlocal.PatchInfoNCEHead'),
        local_end=True,
        input_shape=(1, 64, 64),
    )
)
train_dataloader = dict(dataset=dict(split='unlabeled'))
# The model's own head sees no label: there is nothing to validate.
train_cfg = dict(val_begin=1000)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
