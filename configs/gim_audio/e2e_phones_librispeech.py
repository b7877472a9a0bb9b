_base_ = './e2e_speakers_librispeech.py'
model = dict(
    neck=None,
    head=dict(
        _delete_=True,
        type='mmlocal.FrameClsHead',
        num_classes=41,
        in_channels=256,
    ),
)
val_evaluator = [dict(type='mmlocal.FrameAccuracy')]
test_evaluator = val_evaluator
