_base_ = './deeplabv3_r101_cityscapes.py'
# 4 GPUs x 3 images.
train_dataloader = dict(batch_size=3)
optim_wrapper = dict(optimizer=dict(lr=0.015))
auto_scale_lr = dict(base_batch_size=12)
