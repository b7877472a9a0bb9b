optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
)
# (lr - 1e-4) (1 - i / 40000)^0.9 + 1e-4. mmengine reaches eta_min one
# iteration before `end`, hence the one more.
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-4, end=40001, by_epoch=False)
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# enable=True adapts lr to the batch of all GPUs together.
auto_scale_lr = dict(enable=False, base_batch_size=8)
