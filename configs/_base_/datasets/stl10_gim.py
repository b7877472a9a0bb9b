_base_ = './stl10.py'
# Greedy InfoMax's: gray crops of 64 pixels, normalized by what train and
# unlabeled images have.
data_preprocessor = dict(mean=[105.06], std=[65.535])
gray = dict(
    type='RandomGrayscale', prob=1.0, channel_weights=(0.299, 0.587, 0.114)
)
train_pipeline = [
    dict(type='RandomCrop', crop_size=64),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    gray,
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='CenterCrop', crop_size=64),
    gray,
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
