_base_ = [
    '../_base_/models/resnet_imagenet.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_cosine_90e.py',
    '../_base_/default_runtime_cls.py',
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
