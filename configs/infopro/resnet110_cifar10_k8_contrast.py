_base_ = './resnet110_cifar10_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(name='infopro/resnet110-k8'),
        local_heads=dict(recon_weight=(5.0, 0.0), task_weight=(0.0, 1.0)),
    )
)
