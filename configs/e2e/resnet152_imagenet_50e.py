_base_ = [
    '../_base_/models/resnet_imagenet.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_step_50e.py',
    '../_base_/default_runtime_cls.py',
]
model = dict(backbone=dict(depth=152))
# 8 GPUs x 32 images.
train_dataloader = dict(batch_size=32)
auto_scale_lr = dict(enable=False, base_batch_size=256)
