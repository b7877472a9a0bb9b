# Downloaded to data/mnist if it is not there.
dataset_type = 'MNIST'
data_root = 'data/mnist'
data_preprocessor = dict(num_classes=10, mean=[33.3285], std=[78.5655])
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        test_mode=True,  # what mmpretrain's MNIST looks at
        pipeline=pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='mmlocal.PerModuleAccuracy', topk=(1,)),
]
test_evaluator = val_evaluator
