model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(
        type='mmlocal.PatchBackbone',
        backbone=dict(type='mmlocal.PreActResNet', depth=50, in_channels=1),
        patch_size=16,
        stride=8,
    ),
    neck=dict(type='mmlocal.PatchPooling', grid=7),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=1024,
        cal_acc=True,
        init_cfg=None,  # torch's own initialization, as published
    ),
)
