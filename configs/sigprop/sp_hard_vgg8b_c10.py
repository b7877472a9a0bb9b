_base_ = './sp_soft_vgg8b_c10.py'
model = dict(backbone=dict(local_heads=dict(target='hard')))
