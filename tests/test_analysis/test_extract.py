"""Features of many images."""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS

from mmlocal.analysis import Extractor, Reading, Source, Taps
from mmlocal.analysis.extract import Table


@pytest.fixture
def extractor(shapes_cfg, shapes_model, tmp_path):
    shapes_model.train()
    source = Source(shapes_cfg)
    return Extractor(shapes_model, Taps(shapes_model), source, tmp_path)


@pytest.mark.slow
def test_features_are_those_of_the_validation(extractor, shapes_cfg):
    features = extractor.read(Reading(inputs=True))
    model = extractor.model.eval()
    dataset = DATASETS.build(shapes_cfg.val_dataloader.dataset)
    batch = pseudo_collate([dataset[i] for i in range(40)])
    images = model.data_preprocessor(batch, False)['inputs']
    with torch.no_grad():
        last = model.backbone(images)[-1].mean((2, 3))
    np.testing.assert_allclose(features.values[-1], last, atol=1e-5)
    np.testing.assert_array_equal(features.inputs, images.flatten(1))
    labels = [dataset.get_data_info(i)['gt_label'] for i in range(40)]
    assert features.labels.tolist() == labels
    assert features.modules == ['module 1', 'module 2']
    assert features.num_classes == 5


def test_training_images_come_without_augmentation(extractor):
    reading = Reading('train', num_images=20, inputs=True)
    again = Extractor(
        extractor.model, extractor.taps, extractor.source, extractor.folder
    )
    first, second = (each.read(reading).inputs for each in (extractor, again))
    np.testing.assert_array_equal(first, second)


def test_the_model_is_afterwards_as_before(extractor):
    before = {k: v.clone() for k, v in extractor.model.state_dict().items()}
    extractor.model.head.eval()
    modes = [module.training for module in extractor.model.modules()]
    state = torch.get_rng_state()
    extractor.read(Reading('train', num_images=10, inputs=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in extractor.model.modules()] == modes
    for key, value in extractor.model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_config_without_such_images_is_an_error(shapes_cfg):
    source = Source({'val_dataloader': shapes_cfg.val_dataloader})
    with pytest.raises(ValueError, match='no train_dataloader'):
        source.dataset('train')


def test_images_of_different_sizes_are_an_error(tmp_path):
    table = Table(tmp_path / 'x.npy', 4)
    table.append(np.zeros((2, 3)))
    with pytest.raises(ValueError, match='different sizes'):
        table.append(np.zeros((2, 4)))


def test_a_reading_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="form='mean' is unknown"):
        Reading(form='mean')


def test_equal_readings_are_made_once(extractor):
    first = extractor.read(Reading(num_images=10))
    assert extractor.read(Reading(num_images=10)) is first
    assert extractor.read(Reading(num_images=5)) is not first
