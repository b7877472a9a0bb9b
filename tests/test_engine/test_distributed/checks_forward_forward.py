"""Forward-Forward on two ranks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
from checks_gradients import compare, same_on_all_ranks
from conftest import build, classification_batch
from worker import check

from mmlocal.engine.distributed import LocalDistributedDataParallel
from mmlocal.engine.hooks import ClassPrototypeHook


def forward_forward(method: str) -> dict:
    """Modules are updated at the end."""
    head = {'type': 'mmlocal.FFHead', 'num_classes': 10, 'recompute': False}
    return {
        'type': 'mmlocal.FFClassifier',
        '_scope_': 'mmpretrain',
        'data_preprocessor': {'mean': [125.0] * 3, 'std': [64.0] * 3},
        'embedding': {'method': method, 'num_classes': 10},
        'backbone': {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': {
                'type': 'mmlocal.FFMLP',
                'in_features': 3072,
                'widths': [8, 8, 10],
            },
            'boundaries': ['layers.1', 'layers.2'],
            'local_heads': head,
            'local_end': True,
            'input_shape': (3, 32, 32),
        },
    }


@check()
def gradients_of_pairs(rank: int, folder: Path) -> None:
    for counts in (1, 2):
        compare(forward_forward('top-left'), counts)


@check()
def prototypes(rank: int, folder: Path) -> None:
    """Ranks that draw images of their own have those of the first."""
    model = build(forward_forward('average-mixture'))
    batch = classification_batch(40, seed=rank)
    runner = SimpleNamespace(
        model=LocalDistributedDataParallel(model),
        train_dataloader=[batch],
        _resume=False,
    )
    ClassPrototypeHook(as_published=True).before_train(runner)
    embedding = model.embedding
    assert embedding.known and same_on_all_ranks(embedding.buffers())
    own = torch.cat([s.gt_label for s in batch['data_samples']]).bincount()
    same = torch.equal(own, embedding.counts)
    assert same == (dist.get_rank() == 0)
