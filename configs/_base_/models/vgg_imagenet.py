# The classifier of VGG without dropout, as DGL trains it: all of it in the
# neck and the head, so that the backbone ends in a feature map.
linear_init = dict(type='Normal', layer='Linear', std=0.01)
model = dict(
    _scope_='mmpretrain',
    type='ImageClassifier',
    backbone=dict(type='VGG', depth=13, norm_cfg=dict(type='BN')),
    neck=dict(
        type='LinearNeck',
        in_channels=512 * 7 * 7,
        out_channels=4096,
        gap_dim=0,
        norm_cfg=None,
        act_cfg=dict(type='ReLU'),
        init_cfg=linear_init,
    ),
    head=dict(
        type='StackedLinearClsHead',
        num_classes=1000,
        in_channels=4096,
        mid_channels=[4096],
        dropout_rate=0.0,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
        cal_acc=True,
        init_cfg=linear_init,
    ),
)
