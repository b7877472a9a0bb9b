# The split and the weights are not published: equal depth, and ResNet-32's
# weights.
_base_ = './densenet-bc-100-12_cifar10_k2_contrast.py'
model = dict(
    backbone=dict(
        boundaries=dict(num_modules=4),
        local_heads=dict(recon_weight=(6.0, 1.0), task_weight=(0.0, 2.0)),
    )
)
