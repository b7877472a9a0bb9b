_base_ = './gim_k5_librispeech.py'
head = dict(type='mmlocal.SequenceInfoNCEHead', context_channels=256)
# Every module has a recurrent net: the heads those of the first four, which
# serve training alone, the backbone that of the last.
model = dict(
    backbone=dict(
        local_heads=[
            head,
            head,
            head,
            head,
            dict(type='mmlocal.SequenceInfoNCEHead', target_channels=512),
        ]
    )
)
