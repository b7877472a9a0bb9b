# The net of Forward-Forward with an ordinary classifier in place of its last
# layer.
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='mmlocal.FFMLP', in_features=784, widths=[1000] * 4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=1000,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        cal_acc=True,
        init_cfg=None,  # torch's own initialization
    ),
)
