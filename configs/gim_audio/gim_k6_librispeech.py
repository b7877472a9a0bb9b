_base_ = [
    '../_base_/models/cpc-audio.py',
    '../_base_/datasets/librispeech.py',
    '../_base_/schedules/cpc_1000e.py',
    '../_base_/default_runtime_cls.py',
]
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
        # The last module is the recurrent net, which predicts its input.
        local_heads=dict(
            type='mmlocal.SequenceInfoNCEHead', target_channels=512
        ),
        local_end=True,
        input_shape=(1, 20480),
    )
)
optim_wrapper = dict(type='mmlocal.LocalOptimWrapper')
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.LocalDistributedDataParallel')
