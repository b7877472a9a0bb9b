_base_ = [
    '../_base_/models/sigprop-cnn_cifar.py',
    '../_base_/datasets/shapes_cls.py',
    '../_base_/schedules/shapes_cls.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(image_size=24), head=dict(num_classes=5))
train_dataloader = dict(
    batch_size=32, dataset=dict(num_images=5000, image_size=(24, 24))
)
val_dataloader = dict(dataset=dict(num_images=1000, image_size=(24, 24)))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(_delete_=True, type='Adam', lr=3e-3))
param_scheduler = [
    dict(type='mmlocal.WarmupCosineLR', warmup=1, warmup_lr=3e-4)
]
randomness = dict(seed=0)
