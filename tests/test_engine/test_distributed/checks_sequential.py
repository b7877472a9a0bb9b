"""Modules trained one after another, on two ranks and in one process."""

from __future__ import annotations

import time
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from checks_gradients import classifier, same_on_all_ranks
from conftest import classification_batch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import DataLoader
from worker import check

WRAPPER = {'type': 'mmlocal.LocalDistributedDataParallel'}
NET = {
    'type': 'mmlocal.ShallowResNetCIFAR',
    'depth': 18,
    'stem_channels': 8,
    'base_channels': 8,
    'norm_cfg': {'type': 'GN', 'num_groups': 2},
}


class Images(torch.utils.data.Dataset):
    metainfo = {'classes': [str(i) for i in range(10)]}

    def __len__(self):
        return 16

    def __getitem__(self, index):
        batch = classification_batch(1, seed=index)
        return {key: value[0] for key, value in batch.items()}


def loader(batch_size: int, ranks: int) -> DataLoader:
    """The same images a step, however many ranks share them."""
    sampler = DefaultSampler(Images(), shuffle=True, seed=5)
    if ranks == 1:
        sampler.rank, sampler.world_size = 0, 1
        sampler.num_samples = sampler.total_size = 16
    return DataLoader(
        Images(), batch_size, sampler=sampler, collate_fn=pseudo_collate
    )


def run(folder: Path, ranks: int, **train_cfg) -> Runner:
    """Four iterations a module; three are accumulated, so there are two
    steps."""
    model = classifier(NET, 64, ['layer2.0', 'layer4.0'])
    model['neck'] = {'type': 'GlobalAveragePooling'}
    model['backbone']['local_end'] = True
    loop = {'type': 'mmlocal.SequentialTrainLoop', 'epochs': [1, 1, 2]}
    runner = Runner(
        model=deepcopy(model),
        work_dir=str(folder / str(ranks)),
        launcher='pytorch' if ranks > 1 else 'none',
        default_scope='mmpretrain',
        experiment_name=f'{folder.name}{time.monotonic_ns()}',
        log_level='ERROR',
        train_dataloader=loader(4 // ranks, ranks),
        train_cfg=loop | train_cfg,
        optim_wrapper={
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9},
            'clip_grad': {'max_norm': 1.0},
            'accumulative_counts': 3,
        },
        custom_hooks=[{'type': 'mmlocal.LocalLossHook'}, {'type': 'EMAHook'}],
        cfg=Config({'model_wrapper_cfg': dict(WRAPPER)}),
        randomness={'seed': 1},
    )
    runner.train()
    return runner


@check()
def sequential(rank: int, folder: Path) -> None:
    """Equal on all ranks, and what one process learns from as many images."""
    trained = run(folder, 2, head_epochs=1).model
    assert type(trained).__name__ == 'LocalDistributedDataParallel'
    assert same_on_all_ranks(trained.module.parameters())
    expected = run(folder, 1, head_epochs=1).model
    assert type(expected).__name__ == 'ImageClassifier'
    for name, value in expected.state_dict().items():
        found = trained.module.state_dict()[name]
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6)


@check()
def sequential_cached(rank: int, folder: Path) -> None:
    """Each rank computes a part of the features and reads all of them."""
    plain = run(folder / 'plain', 2).model
    cache = {'dir': str(folder / 'disk')}
    trained = run(folder / 'cached', 2, cache=cache).model
    assert same_on_all_ranks(trained.module.parameters())
    for name, value in plain.state_dict().items():
        assert torch.equal(trained.state_dict()[name], value), name
    assert not [*(folder / 'disk').rglob('*.npy')]


@check()
def sequential_cached_apart(rank: int, folder: Path) -> None:
    """Ranks that do not see one disk all say so."""
    with pytest.raises(ValueError, match='cache.dir: .* not the same folder'):
        run(folder, 2, cache={'dir': str(folder / str(rank))})
