_base_ = ['./resnet20_shapes_ce.py', '../_base_/datasets/two_views.py']
model = dict(
    type='mmlocal.MultiViewClassifier',
    backbone=dict(local_heads=dict(loss='contrast')),
)
data_preprocessor = dict(type='mmlocal.MultiViewDataPreprocessor')
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='LoadImageFromFile'), *_base_.two_views])
)
