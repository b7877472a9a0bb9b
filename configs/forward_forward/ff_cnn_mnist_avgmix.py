_base_ = './ff_cnn_mnist_topleft.py'
model = dict(embedding=dict(method='average-mixture'))
