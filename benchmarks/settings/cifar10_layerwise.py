# A ResNet-18 of a quarter of the width, with its local heads, on CIFAR-10 in
# bfloat16, for CPUs: two epochs, the rate a fifth in the second. Layers one
# after another get one epoch each, which takes about as long.
is_cut = 'boundaries' in _base_.model.backbone
is_sequential = 'epochs' in _base_.train_cfg
narrow = dict(base_channels=16)
if is_cut:
    narrow = dict(backbone=narrow)
    if _base_.model.backbone.local_heads.type == 'mmlocal.LayerwiseHead':
        narrow['local_heads'] = dict(max_features=512)
model = dict(backbone=narrow, head=dict(in_channels=128))
if is_sequential:
    train_cfg = dict(epochs=1, head_epochs=1)
else:
    train_cfg = dict(max_epochs=2)
    param_scheduler = [dict(type='MultiStepLR', milestones=[1], gamma=0.2)]
train_dataloader = dict(num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
optim_wrapper = dict(type='mmlocal.LocalAmpOptimWrapper', dtype='bfloat16')
default_hooks = dict(checkpoint=dict(save_best=None))
