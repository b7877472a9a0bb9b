_base_ = './gim_k6_librispeech.py'
model = dict(
    backbone=dict(
        local_heads=dict(
            _delete_=True, type='mmlocal.GreedyHead', num_classes=251
        ),
        local_end=False,
    )
)
# Each module has an accuracy.
val_cfg = dict(type='mmlocal.LocalValLoop')
test_cfg = dict(type='mmlocal.LocalTestLoop')
val_evaluator = [
    dict(type='Accuracy', topk=(1,)),
    dict(type='mmlocal.PerModuleAccuracy', topk=(1,)),
]
test_evaluator = val_evaluator
