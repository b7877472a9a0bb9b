_base_ = '../e2e/gim-resnet50_stl10.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.LocalSupervisedBackbone',
        backbone=_base_.model.backbone,
        boundaries=['backbone.stages.1', 'backbone.stages.2'],
        local_heads=dict(
            type='mmlocal.TaskHead',
            neck=dict(type='mmlocal.PatchPooling', grid=7),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=10,
                cal_acc=True,
                init_cfg=None,
            ),
        ),
        input_shape=(1, 64, 64),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
