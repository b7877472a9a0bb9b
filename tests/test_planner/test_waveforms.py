"""Steps on waveforms are planned, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from mmlocal.models.cut_points import Split
from mmlocal.planner import Simulator, TrainingSetting
from mmlocal.planner.real_steps import RealSteps

CONFIGS = Path(__file__).parents[2] / 'configs/gim_audio'


@pytest.fixture
def setting():
    """Greedy InfoMax on 10 frames."""
    cfg = Config.fromfile(CONFIGS / 'gim_k6_formants.py')
    cfg.train_dataloader.dataset.pipeline[0].length = 1600
    cfg.model.backbone.input_shape = (1, 1600)
    cfg.model.backbone.local_heads.num_steps = 3
    return TrainingSetting(cfg, device='cpu')


@pytest.mark.slow
def test_predictions_are_what_real_steps_allocate(setting):
    assert setting.inputs == '8 waveforms of 1600 samples'
    fake, real = Simulator(setting), RealSteps(setting)
    expected = real.measure(fake.own_split).peak
    found = fake.measure(fake.own_split).peak
    assert found == pytest.approx(expected, rel=0.01)


def test_the_last_head_stays_at_the_end():
    """Where a split has another number of cuts than the config."""
    cfg = Config.fromfile(CONFIGS / 'gim_k5_autoregressive_librispeech.py')
    cfg.model.backbone.input_shape = (1, 1600)
    simulator = Simulator(TrainingSetting(cfg, 1, (1600,), device='cpu'))
    for cuts in [], ['layers.2'], ['layers.1', 'layers.3']:
        simulator.prepare(Split(cuts, [None] * (len(cuts) + 1)))
        heads = simulator.backbone.local_heads
        assert [head.channels for head in heads] == [512] * (len(cuts) + 1)
        # The backbone itself has that of the last module.
        found = [head.context is not None for head in heads]
        assert found == [True] * len(cuts) + [False]


def test_the_samples_are_those_of_the_crop():
    cfg = Config.fromfile(CONFIGS / 'greedy_k6_phones_librispeech.py')
    setting = TrainingSetting(cfg)
    assert setting.image_size == (20480,)
    assert setting.input_shape == (1, 20480)
