_base_ = './ff_mlp_mnist_topleft.py'
model = dict(embedding=dict(method='average-mixture'))
