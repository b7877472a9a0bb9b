_base_ = './lw-resnet18_cifar10_ce.py'
# For comparison: the last block is trained by the classifier.
model = dict(
    backbone=dict(
        local_heads=dict(type='mmlocal.InfoProHead'), local_end=False
    )
)
