_base_ = './resnet32_cifar10_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(name='infopro/resnet32-k16'),
        local_heads=dict(recon_weight=(5.0, 0.2), task_weight=(0.05, 0.5)),
    )
)
