_base_ = './e2e_phones_librispeech.py'
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
            'autoregressor',
        ],
        local_heads=dict(
            type='mmlocal.TaskHead',
            head=dict(type='mmlocal.FrameClsHead', num_classes=41),
        ),
        input_shape=(1, 20480),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
