# Layer-wise training augments by flips alone; batch and normalization are
# DGL's, too.
_base_ = './cifar10_dgl.py'
train_pipeline = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
