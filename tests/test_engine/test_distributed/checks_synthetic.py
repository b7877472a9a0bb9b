"""Heads that learn from the gradient of the next module, on two ranks."""

from __future__ import annotations

from pathlib import Path

from checks_gradients import classifier, compare, small_buckets
from worker import check


@check()
def gradients_that_are_predicted(rank: int, folder: Path) -> None:
    net = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    cfg = classifier(net, 64, ['layer2.0', 'layer3.0'])
    cfg['backbone'] |= {
        'local_heads': {
            'type': 'mmlocal.DNIHead',
            'context': True,
            'num_classes': 10,
            'hidden_channels': 8,
        },
        'local_end': True,
    }
    for counts in (1, 2):
        compare(cfg, counts, steps=2)
    compare(cfg, 1, small_buckets, steps=2)
