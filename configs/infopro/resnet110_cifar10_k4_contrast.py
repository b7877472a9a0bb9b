_base_ = './resnet110_cifar10_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(name='infopro/resnet110-k4'),
        local_heads=dict(recon_weight=(1.0, 0.0), task_weight=(0.0, 1.0)),
    )
)
