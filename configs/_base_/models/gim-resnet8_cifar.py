_base_ = './gim-resnet50.py'
# 7x7 patches of 8 pixels in an image of 32.
model = dict(
    backbone=dict(
        backbone=dict(
            depth=34,
            in_channels=3,
            base_channels=16,
            stage_blocks=(1, 1, 1),
        ),
        patch_size=8,
        stride=4,
    ),
    head=dict(in_channels=64),
)
