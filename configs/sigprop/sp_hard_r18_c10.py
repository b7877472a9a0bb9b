_base_ = './sp_soft_r18_c10.py'
model = dict(backbone=dict(local_heads=dict(target='hard')))
