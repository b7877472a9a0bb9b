_base_ = './gim_k5_librispeech.py'
head = dict(
    type='mmlocal.SequenceInfoNCEHead', context_channels=256, bptt=False
)
model = dict(
    backbone=dict(
        backbone=dict(bptt=False),
        local_heads=[
            head,
            head,
            head,
            head,
            dict(type='mmlocal.SequenceInfoNCEHead', target_channels=512),
        ],
    )
)
