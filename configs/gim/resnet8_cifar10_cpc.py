_base_ = './resnet8_cifar10.py'
# One module, and contexts of the rows above.
model = dict(
    backbone=dict(
        boundaries=[],
        local_heads=dict(context=dict(type='mmlocal.GatedPixelCNN')),
    )
)
