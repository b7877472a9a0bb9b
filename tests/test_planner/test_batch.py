from __future__ import annotations

import pytest

from mmlocal.planner.batch import batch_size_of, image_size_of, task_of
from mmlocal.planner.training_setting import TrainingSetting


def cfg_of(*transforms, **model):
    dataset = {'dataset': {'pipeline': list(transforms)}}
    return {'model': model, 'train_dataloader': {'dataset': dataset}}


@pytest.mark.parametrize(
    ('transforms', 'size'),
    [
        (
            [
                {'type': 'RandomResize', 'scale': (2048, 1024)},
                {'type': 'RandomCrop', 'crop_size': (512, 1024)},
            ],
            (512, 1024),
        ),
        ([{'type': 'mmpretrain.RandomResizedCrop', 'scale': 224}], (224, 224)),
        ([{'type': 'Resize', 'scale': (640, 480)}], (480, 640)),
        (
            [
                {'type': 'RandomCrop', 'crop_size': 32},
                {'type': 'RandomApply', 'transforms': [{'type': 'Blur'}]},
            ],
            (32, 32),
        ),
    ],
)
def test_size_of_training_images(transforms, size):
    assert image_size_of(cfg_of(*transforms)) == size


def test_the_data_preprocessor_has_the_last_word():
    crop = {'type': 'RandomCrop', 'crop_size': 32}
    cfg = cfg_of(crop, data_preprocessor={'size': (64, 48)})
    assert image_size_of(cfg) == (64, 48)


def test_missing_sizes_are_named():
    keep = {'type': 'Resize', 'scale': (2048, 512), 'keep_ratio': True}
    with pytest.raises(ValueError, match='--crop-size HEIGHT WIDTH'):
        image_size_of(cfg_of(keep))
    with pytest.raises(ValueError, match='--batch-size'):
        batch_size_of(cfg_of())
    with pytest.raises(ValueError, match='segmentors .* and classifiers'):
        task_of({'type': 'FasterRCNN', 'roi_head': {}})


def test_settings_that_cannot_be_planned(config):
    cfg = config('resnet')
    cfg['optim_wrapper'] = {'type': 'mmlocal.LocalOptimWrapper'}
    with pytest.raises(ValueError, match='optim_wrapper.optimizer'):
        TrainingSetting(cfg)
    cfg['optim_wrapper'] = {'type': 'ApexOptimWrapper', 'optimizer': {}}
    with pytest.raises(ValueError, match='not .ApexOptimWrapper'):
        TrainingSetting(cfg)
    with pytest.raises(ValueError, match="neither 'cuda' nor 'cpu'"):
        TrainingSetting(config('resnet'), device='tpu')
