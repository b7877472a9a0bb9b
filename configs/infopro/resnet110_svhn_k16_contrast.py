_base_ = './resnet110_svhn_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(name='infopro/resnet110-k16'),
        local_heads=dict(recon_weight=(5.0, 0.5), task_weight=(0.2, 1.0)),
    )
)
