_base_ = './resnet110_stl10_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(name='infopro/resnet110-stl10-balanced-k3'),
        local_heads=dict(recon_weight=(20.0, 5.0), task_weight=(0.5, 2.0)),
    )
)
