_base_ = './dni-convnet_cifar10_k3.py'
model = dict(
    backbone=dict(
        local_heads=dict(
            _delete_=True, type='mmlocal.DNIHead', context=True, num_classes=10
        ),
        # The last guess is held to the gradient of the model's own head.
        local_end=True,
    )
)
train_cfg = dict(max_epochs=2000)
