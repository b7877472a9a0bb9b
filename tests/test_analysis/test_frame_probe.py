"""A linear classifier on frames of waveforms."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from mmlocal.analysis import Extractor, Features, FrameProbe, Source, Taps
from mmlocal.analysis.forms import as_frames
from mmlocal.analysis.frame_probe import sample_frames
from mmlocal.analysis.measure import Reading
from mmlocal.registry import MODELS

CONFIG = Path(__file__).parents[2] / 'configs/gim_audio/gim_k6_formants.py'


def waves(num: int, seed: int, classes: int = 3, frames: int = 30) -> Features:
    """Two modules: noise, then classes; a tenth has no label."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    labels = rng.integers(0, classes, (num, frames))
    noise = rng.normal(size=(2, num, 8, frames))
    held = centres[labels].transpose(0, 2, 1) + 0.05 * noise[1]
    labels[rng.random(labels.shape) < 0.1] = 255
    values = [noise[0].astype('f'), held.astype('f')]
    return Features(['noise', 'classes'], values, labels)


@pytest.mark.parametrize(
    'options', [{}, {'protocol': 'audio_phones', 'lr': 1e-2}]
)
def test_all_of_what_is_there_and_chance_of_what_is_not(options):
    probe = FrameProbe(num_frames=600, **options)
    values = probe.measure(waves(40, 0), waves(40, 1))
    noise, held = values['accuracy']
    assert held == 100 and values['train_accuracy'][1] == 100
    assert abs(noise - 100 / 3) < 7


def test_the_same_number_of_each_waveform_and_none_without_label():
    features = waves(20, 0)
    feats, labels, numbers = sample_frames(features, 1, 200, seed=0)
    assert len(feats) == len(labels) == len(numbers) < 200
    assert {*numbers.tolist()} == {*range(20)} and 255 not in labels
    assert np.bincount(numbers).max() <= 10
    for feat, label, number in zip(feats, labels, numbers, strict=True):
        frames = features.values[1][number]
        (place,) = (frames == feat.numpy()[:, None]).all(0).nonzero()[0]
        assert features.labels[number, place] == label


def test_frames_are_means_of_ten_ms():
    feat, inputs = torch.randn(2, 3, 20), torch.zeros(2, 1, 1600)
    expected = feat.unflatten(2, (10, 2)).mean(3)
    torch.testing.assert_close(as_frames(feat, inputs), expected)
    with pytest.raises(ValueError, match='no sequence of a waveform'):
        as_frames(feat, torch.zeros(2, 3, 32, 32))


def test_features_and_labels_of_a_model(tmp_path):
    """Phones for frames, speakers for what is pooled."""
    cfg = Config.fromfile(CONFIG)
    for split in 'train', 'val':
        cfg[f'{split}_dataloader'].dataset.update(
            num_utterances=6, num_frames=20
        )
    cfg.val_dataloader.dataset.pipeline[0].length = 3200
    cfg.val_dataloader.batch_size = 4
    cfg.model.backbone.input_shape = (1, 3200)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(deepcopy(cfg.model)).eval()
    extractor = Extractor(model, Taps(model), Source(cfg), tmp_path)
    frames = extractor.read(Reading('train', 'frames'))
    pooled = extractor.read(Reading('train', 'pool'))
    assert (frames.num_classes, pooled.num_classes) == (14, 20)
    assert pooled.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert frames.labels.shape == (6, 20)
    assert [v.shape for v in frames.values] == [(6, 32, 20)] * 6
    dataset = extractor.source.dataset('train')
    item = dataset[2]
    data = model.data_preprocessor({'inputs': [item['inputs']]})
    first = model.backbone.run_module(0, data['inputs'])[0]
    expected = F.adaptive_avg_pool1d(first, 20).detach().numpy()
    np.testing.assert_allclose(frames.values[0][2], expected, atol=1e-5)
    labels = item['data_samples'].gt_frames.numpy()
    assert np.array_equal(frames.labels[2], labels)


def test_images_are_refused():
    features = Features(['map'], [np.zeros((4, 8))], np.zeros(4, int))
    with pytest.raises(ValueError, match='there is LinearProbe'):
        sample_frames(features, 0, 10, 0)
    frames = np.zeros((4, 8, 5))
    features = Features(['map'], [frames], np.full((4, 5), 255))
    with pytest.raises(ValueError, match='no frame .* has a label'):
        sample_frames(features, 0, 10, 0)
