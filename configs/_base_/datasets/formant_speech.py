# Made, not downloaded; 20 speakers, 14 phones, 1.28 s of each utterance.
dataset_type = 'mmlocal.FormantSpeech'
data_preprocessor = dict(type='mmlocal.AudioDataPreprocessor')
train_pipeline = [
    dict(type='mmlocal.CropAudio', length=20480, place='random'),
    dict(type='mmlocal.PackAudio'),
]
test_pipeline = [
    dict(type='mmlocal.CropAudio', length=20480, place='center'),
    dict(type='mmlocal.PackAudio'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        split='train',
        num_utterances=640,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=20,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        split='val',
        num_utterances=200,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1,))]
test_evaluator = val_evaluator
