# Of DGL's study of auxiliary nets. The classifier pools to 2x2 and has two
# hidden layers, whatever the local heads are.
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='mmlocal.CIFARConvNet', depth=6, base_channels=128),
    neck=dict(type='mmlocal.GridPooling'),
    head=dict(
        type='StackedLinearClsHead',
        num_classes=10,
        in_channels=2048,
        mid_channels=[2048, 2048],
        norm_cfg=dict(type='BN1d'),
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        cal_acc=True,
    ),
)
