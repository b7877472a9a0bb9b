# data/librispeech/train-clean-100/<speaker>/<chapter>/*.flac, the lists and
# the phones of CPC beside it; 1.28 s of each utterance.
dataset_type = 'mmlocal.LibriSpeech'
data_root = 'data/librispeech'
# As published, where samples were scaled to 32 bits.
data_preprocessor = dict(
    type='mmlocal.AudioDataPreprocessor',
    mean=-1456218.75 / 2**31,
    std=135303504.0 / 2**31,
)
train_pipeline = [
    dict(type='mmlocal.LoadAudio'),
    dict(type='mmlocal.CropAudio', length=20480, place='random', align='end'),
    dict(type='mmlocal.PackAudio'),
]
test_pipeline = [
    dict(type='mmlocal.LoadAudio'),
    dict(type='mmlocal.CropAudio', length=20480, place='center', align='end'),
    dict(type='mmlocal.PackAudio'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='train_split.txt',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='test_split.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1,))]
test_evaluator = val_evaluator
