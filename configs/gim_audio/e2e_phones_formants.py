_base_ = './e2e_speakers_formants.py'
model = dict(
    neck=None,
    head=dict(
        _delete_=True,
        type='mmlocal.FrameClsHead',
        num_classes=14,
        in_channels=32,
    ),
)
val_evaluator = [dict(type='mmlocal.FrameAccuracy')]
test_evaluator = val_evaluator
