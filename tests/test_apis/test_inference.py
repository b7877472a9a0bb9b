"""Predictions of the network and of its modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import mmlocal
from mmlocal.apis.export import publish_model
from mmlocal.apis.inference import Predictor
from mmlocal.apis.zoo import get_config

CLASSIFIER = 'infopro_resnet20_shapes'
SEGMENTOR = 'infopro_deeplabv3_r18_shapes'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Checkpoints of a training, by name."""
    paths = {}
    for name in CLASSIFIER, SEGMENTOR:
        model = mmlocal.get_model(name, False, 'cpu', local_heads=True)
        paths[name] = tmp_path_factory.mktemp('weights') / f'{name}.pth'
        torch.save({'state_dict': model.state_dict()}, paths[name])
    return paths


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(
        0, 256, (height, width, 3), np.uint8
    )


@pytest.mark.parametrize('name', [CLASSIFIER, SEGMENTOR])
def test_image_comes_back_as_it_was(name, weights):
    """Normalization, and the order of the colors, are undone."""
    predictor = Predictor(name, weights[name], 'cpu')
    source = image(64, 64)
    (result,) = predictor([source])
    assert (result.seen == source[..., ::-1]).all()


def test_order_of_colors_of_a_bgr_network(weights):
    cfg = get_config(SEGMENTOR)
    cfg.model.data_preprocessor.bgr_to_rgb = False
    predictor = Predictor(cfg, weights[SEGMENTOR], 'cpu')
    source = image(64, 64)
    (result,) = predictor([source])
    assert (result.seen == source[..., ::-1]).all()


@pytest.mark.parametrize('name', [CLASSIFIER, SEGMENTOR])
def test_batches_and_modules_change_nothing(name, weights):
    images = [image(64, 64, 0), image(64, 64, 1), image(32, 32, 2)]
    one = Predictor(name, weights[name], 'cpu')(images)
    two = Predictor(name, weights[name], 'cpu', modules=True)(images, 2)
    assert len(one) == len(two) == 3
    for a, b, source in zip(one, two, images, strict=True):
        assert not a.modules and len(b.modules) == 1
        (module,) = b.modules
        assert module.reconstruction.shape == b.seen.shape
        if name == SEGMENTOR:
            assert (a.labels == b.labels).all()
            assert a.labels.shape == module.labels.shape == source.shape[:2]
        else:
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)
            assert module.scores.sum() == pytest.approx(1, abs=1e-5)


def test_classification_equals_the_model(weights):
    source = image(32, 32)
    predictor = Predictor(CLASSIFIER, weights[CLASSIFIER], 'cpu')
    (result,) = predictor([source])
    preprocessor = predictor.model.data_preprocessor
    mean, std = preprocessor.mean, preprocessor.std
    rgb = torch.from_numpy(source[..., ::-1].copy()).permute(2, 0, 1).float()
    logits = predictor.model(((rgb - mean) / std)[None], mode='tensor')
    expected = logits.softmax(1)[0].detach().numpy()
    np.testing.assert_allclose(result.scores, expected, atol=1e-6)


def test_modules_need_local_heads(weights, tmp_path):
    with pytest.raises(ValueError, match='no local modules to show'):
        Predictor(
            'e2e_resnet20_shapes',
            publish_model(weights[CLASSIFIER], tmp_path / 'plain.pth'),
            'cpu',
            modules=True,
        )
    plain = next(tmp_path.glob('plain*'))
    with pytest.raises(ValueError, match='local_heads.0'):
        Predictor(CLASSIFIER, plain, 'cpu', modules=True)


def test_config_that_is_given_is_not_changed(weights):
    cfg = get_config(SEGMENTOR)
    before = cfg.to_dict()
    Predictor(cfg, weights[SEGMENTOR], 'cpu')
    assert cfg.to_dict() == before
