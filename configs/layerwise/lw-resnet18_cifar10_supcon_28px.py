_base_ = './lw-resnet18_cifar10_supcon.py'
# As published: trained on views of 28 pixels, tested on images of 32.
model = dict(backbone=dict(input_shape=(3, 28, 28)))
crop = dict(type='RandomResizedCrop', scale=28, crop_ratio_range=(0.2, 1.0))
two_views = [
    dict(
        type='MultiView',
        num_views=2,
        transforms=[[crop, *_base_.view_transforms]],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=two_views))
