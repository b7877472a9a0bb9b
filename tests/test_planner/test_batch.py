from __future__ import annotations

import pytest
from mmengine.registry import init_default_scope

from mmlocal.planner.batch import (
    batch_size_of,
    batch_tensors,
    channels_of,
    image_size_of,
    make_batch,
    map_batch,
    num_classes_of,
    task_of,
)
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
        ([{'type': 'torchvision/RandomCrop', 'size': 48}], (48, 48)),
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


def test_images_of_one_size_need_no_crop():
    cfg = cfg_of({'type': 'RandomFlip', 'prob': 0.5})
    dataset = cfg['train_dataloader']['dataset']['dataset']
    dataset['type'] = 'mmlocal.CIFAR10'
    assert image_size_of(cfg) == (32, 32)
    keep = {'type': 'Resize', 'scale': (64, 128), 'keep_ratio': True}
    dataset['pipeline'].append(keep)
    with pytest.raises(ValueError, match='no data set of one size'):
        image_size_of(cfg)


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
    with pytest.raises(ValueError, match='segmentors .* classifiers'):
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


def test_models_get_what_they_take(config):
    """Some take no `pretrained`; where it is, nothing is to be loaded."""
    cfg = config('resnet')
    assert 'pretrained' not in TrainingSetting(cfg).model
    cfg['model']['pretrained'] = 'weights.pth'
    assert 'pretrained' not in TrainingSetting(cfg).model


def test_views_and_masks_of_self_supervised_models():
    """What the config's own transforms make of an image."""
    init_default_scope('mmpretrain')
    crop = {'type': 'RandomResizedCrop', 'scale': 16}
    views = {'type': 'MultiView', 'num_views': 2, 'transforms': [[crop]]}
    pack = {'type': 'PackInputs'}
    pipeline = [{'type': 'LoadImageFromFile'}, views, pack]
    batch = make_batch('self-supervised', 3, (16, 16), pipeline=pipeline)
    assert [view.shape for view in batch['inputs']] == [(3, 3, 16, 16)] * 2
    labelled = make_batch('classification', 3, (16, 16), pipeline=pipeline)
    assert [view.shape for view in labelled['inputs']] == [(3, 3, 16, 16)] * 2
    assert [s.gt_label.tolist() for s in labelled['data_samples']] == [[0]] * 3
    mask = {
        'type': 'SimMIMMaskGenerator',
        'input_size': 16,
        'mask_patch_size': 8,
        'model_patch_size': 4,
        'mask_ratio': 0.5,
    }
    pipeline = [crop, mask, pack]
    batch = make_batch('self-supervised', 3, (16, 16), pipeline=pipeline)
    assert batch['inputs'].shape == (3, 3, 16, 16)
    assert batch['data_samples'][0].mask.shape == (4, 4)
    assert len(batch_tensors(batch)) == 1 + 3 * 2


@pytest.mark.parametrize('task', ['segmentation', 'classification'])
def test_other_tensors_in_a_batch(task):
    batch = make_batch(task, 2, (4, 4), channels=1)
    assert batch['inputs'][0].shape == (1, 4, 4)
    found = map_batch(lambda tensor: tensor + 1, batch)
    assert all(tensor.eq(1).all() for tensor in batch_tensors(found))
    assert all(tensor.eq(0).all() for tensor in batch_tensors(batch))
    assert len(batch_tensors(found)) == 4


@pytest.mark.parametrize(
    ('model', 'channels'),
    [
        ({'data_preprocessor': {'mean': [33.0]}}, 1),
        ({'backbone': {'in_channels': 4}}, 4),
        ({'backbone': {'backbone': {'in_channels': 2}}}, 2),
        ({'backbone': {'type': 'ResNet'}}, 3),
    ],
)
def test_channels(model, channels):
    assert channels_of(model) == channels


def test_classes_of_backbones_that_classify_themselves():
    model = {'backbone': {'num_classes': 7}, 'head': {'type': 'ClsHead'}}
    assert num_classes_of(model) == 7
    assert num_classes_of({**model, 'head': {'num_classes': 5}}) == 5


def test_classes_of_heads_that_are_made_of_several():
    """As K-Net's; a loss comes before them, and has none."""
    stages = [{'in_channels': 3, 'loss': {'weight': 1.0}}, {'num_classes': 6}]
    head = {'type': 'IterativeDecodeHead', 'kernel_update_head': stages}
    assert num_classes_of({'backbone': {}, 'decode_head': head}) == 6
    assert (
        num_classes_of({'backbone': {}, 'head': {'type': 'ClsHead'}}) is None
    )


def test_edges_of_segments():
    """A map beside the labels, where the pipeline makes one (PIDNet)."""
    for steps, count in ([], 2), ([{'type': 'mmseg.GenerateEdge'}], 3):
        batch = make_batch('segmentation', 1, (4, 6), pipeline=steps)
        assert len(batch_tensors(batch)) == count
    (sample,) = batch['data_samples']
    assert sample.gt_edge_map.data.shape == (1, 4, 6)


def test_self_supervised_models_are_told_apart():
    model = {'type': 'MoCo', 'backbone': {}, 'head': {}}
    assert task_of(model) == 'self-supervised'
    assert task_of({**model, 'type': 'ImageClassifier'}) == 'classification'


def test_stock_networks_are_looked_at_with_no_more_than_their_images():
    """LeNet takes 32x32 pixels alone."""
    model = {
        'type': 'ImageClassifier',
        'backbone': {'type': 'LeNet5', 'num_classes': 10},
        'head': {'type': 'ClsHead', 'num_classes': 10},
    }
    cfg = {
        'default_scope': 'mmpretrain',
        'model': model,
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.1}},
    }
    small = TrainingSetting(cfg, batch_size=2, image_size=(32, 32))
    assert small.input_shape == (3, 32, 32)
    large = TrainingSetting(cfg, batch_size=2, image_size=(512, 1024))
    assert large.input_shape == (3, 224, 224)
