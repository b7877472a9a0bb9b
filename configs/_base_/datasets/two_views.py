# Two crops of each image, in other colours, for the contrastive loss; of the
# size of the images that are tested. `two_views` is for
# train_dataloader.dataset.pipeline.
view_transforms = [
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
            )
        ],
    ),
    dict(
        type='RandomGrayscale',
        prob=0.2,
        keep_channels=True,
        channel_weights=(0.299, 0.587, 0.114),  # of RGB
    ),
]
crop = dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.2, 1.0))
two_views = [
    dict(type='MultiView', num_views=2, transforms=[[crop, *view_transforms]]),
    dict(type='PackInputs'),
]
