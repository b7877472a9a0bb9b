_base_ = './lw-resnet18_cifar10_ce.py'
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-6
    )
)
