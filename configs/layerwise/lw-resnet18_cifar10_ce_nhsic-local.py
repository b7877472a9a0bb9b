_base_ = './lw-resnet18_cifar10_ce.py'
model = dict(
    backbone=dict(
        local_heads=dict(regularizer=dict(scope='local', weight=0.01))
    )
)
