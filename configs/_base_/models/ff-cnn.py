_base_ = './ff-mlp.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmlocal.FFConvNet',
        in_channels=1,
        image_size=28,
        conv_widths=[32, 64],
        widths=[128],
    ),
    head=dict(in_channels=128),
)
