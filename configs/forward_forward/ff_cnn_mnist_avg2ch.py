_base_ = './ff_cnn_mnist_topleft.py'
model = dict(
    embedding=dict(method='average-2channel'),
    # Image and prototype, side by side.
    backbone=dict(backbone=dict(in_channels=2), input_shape=(2, 28, 28)),
)
