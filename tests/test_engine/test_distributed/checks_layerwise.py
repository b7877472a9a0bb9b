"""A local loss behind each block, on two ranks."""

from __future__ import annotations

from pathlib import Path

from checks_gradients import classifier, compare, small_buckets
from worker import check


@check()
def gradients_of_each_block(rank: int, folder: Path) -> None:
    net = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    cfg = classifier(net, 64, {'type': 'mmlocal.EachBlock'})
    cfg['backbone'] |= {
        'local_heads': {
            'type': 'mmlocal.LayerwiseHead',
            'loss': 'predsim',
            'num_classes': 10,
            'max_features': 64,
            'regularizer': {'scope': 'local', 'weight': 0.1},
        },
        'local_end': True,
    }
    for counts in (1, 2):
        compare(cfg, counts, steps=2)
    cfg['backbone']['local_heads'] |= {'loss': 'contrast', 'net': 'mlp'}
    compare(cfg, 1, small_buckets, steps=2)
