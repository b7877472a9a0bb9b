# Validates on 'valid' and tests on 'test'. Where CINIC-10 is the target of a
# published transfer, 'valid' is the test set and 'test' is left alone:
# test_dataloader.dataset.split='valid'.
_base_ = 'cifar100.py'
dataset_type = 'mmlocal.CINIC10'
data_root = 'data/cinic10'
data_preprocessor = dict(
    num_classes=10, mean=[122.1, 120.4, 109.8], std=[61.7, 60.8, 66.0]
)
train_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root))
val_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='valid')
)
test_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, split='test')
)
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='mmlocal.PerModuleAccuracy', topk=(1,)),
]
test_evaluator = val_evaluator
