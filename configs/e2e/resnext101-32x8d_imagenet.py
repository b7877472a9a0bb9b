_base_ = './resnet101_imagenet.py'
model = dict(
    backbone=dict(type='ResNeXt', depth=101, groups=32, width_per_group=8)
)
# 8 GPUs x 64 images, as in the paper's table, and the rate that goes with it;
# the command in the authors' README has twice of both.
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.2))
auto_scale_lr = dict(base_batch_size=512)
