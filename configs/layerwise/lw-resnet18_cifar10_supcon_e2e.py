_base_ = './lw-resnet18_cifar10_supcon.py'
# The whole network by one contrastive loss, through the usual projection to
# 128 values; the classifier reads it, as it reads the layers.
model = dict(
    backbone=dict(
        boundaries=[],
        local_heads=dict(net='mlp', max_features=512, feature_dim=128),
    )
)
