_base_ = './sp_soft_r18_c10.py'
model = dict(backbone=dict(local_heads=dict(target='official')))
# Of the authors of Signal Propagation.
optim_wrapper = dict(optimizer=dict(lr=4e-4))
