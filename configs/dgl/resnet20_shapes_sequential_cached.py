_base_ = './resnet20_shapes_sequential.py'
# No random transform: an image has one feature.
train_dataloader = dict(
    dataset=dict(
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    )
)
train_cfg = dict(cache='disk')
