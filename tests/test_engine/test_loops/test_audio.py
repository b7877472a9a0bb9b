"""Greedy InfoMax on waveforms, killed and resumed, at once and in turn."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook

LAYERS = ['layers.2', 'layers.4', 'autoregressor']


class Waveforms(torch.utils.data.Dataset):
    """Eight waveforms of four speakers."""

    metainfo = {'classes': [str(i) for i in range(4)]}

    def __init__(self, helpers):
        batch = helpers.audio_batch(size=8)
        self.items = [
            {'inputs': wave, 'data_samples': sample}
            for wave, sample in zip(*batch.values(), strict=True)
        ]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return deepcopy(self.items[index])


class SeedEachIteration(Hook):
    """Wrong targets are random: let them depend on the iteration alone."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        torch.manual_seed(runner.iter)


@pytest.fixture
def audio(cfg, helpers):
    """Two epochs of four iterations, for each module if in turn."""
    cfg['model'] = helpers.audio_cfg(LAYERS)
    cfg['train_dataloader']['dataset'] = Waveforms(helpers)
    cfg['custom_hooks'] += [SeedEachIteration()]
    cfg['optim_wrapper']['optimizer'] = {'type': 'Adam', 'lr': 1e-3}
    return cfg


@pytest.mark.parametrize(
    ('train_cfg', 'epochs'),
    [
        ({'by_epoch': True, 'max_epochs': 3}, 2),
        # Killed in the middle of the phase of the recurrent net.
        (
            {
                'type': 'mmlocal.SequentialTrainLoop',
                'epochs': [1, 1, 1, 2],
                'cache': 'disk',
            },
            4,
        ),
    ],
)
def test_resumed_losses_are_those_of_one_run(audio, loops, train_cfg, epochs):
    audio['train_cfg'] = train_cfg
    _, whole = loops.train(audio, work_dir=audio['work_dir'] + '_whole')
    loops.train(audio, stop={'epochs': epochs})
    runner, rest = loops.train(audio, resume=True)
    assert len(rest.losses) == 4
    assert rest.losses == whole.losses[-4:]
    assert 'train/local_3.loss_nce' in rest.losses[-1]


def test_one_after_another_with_and_without_stored_features(audio, loops):
    audio['train_cfg']['epochs'] = 1
    _, plain = loops.train(audio)
    audio['train_cfg']['cache'] = 'disk'
    _, cached = loops.train(audio, work_dir=audio['work_dir'] + '_cached')
    assert len(plain.losses) == 16
    for index, (one, other) in enumerate(
        zip(plain.losses, cached.losses, strict=True)
    ):
        key = f'train/local_{index // 4}.loss_nce'
        assert one[key] == pytest.approx(other[key], rel=1e-5)
