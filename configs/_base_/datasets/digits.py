# Comes with scikit-learn; 8x8 pixels.
dataset_type = 'mmlocal.Digits'
data_preprocessor = dict(num_classes=10, mean=[77.9], std=[96.0])
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, split='train', pipeline=pipeline),
)
val_dataloader = dict(
    batch_size=350,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, split='test', pipeline=pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='mmlocal.PerModuleAccuracy', topk=(1,)),
]
test_evaluator = val_evaluator
