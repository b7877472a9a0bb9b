model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='mmlocal.CIFARResNet', depth=32),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        cal_acc=True,
        init_cfg=None,  # torch's own initialization, as in the paper's code
    ),
)
