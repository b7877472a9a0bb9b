"""Signal Propagation on two ranks, each with samples of its own."""

from __future__ import annotations

from pathlib import Path

from checks_gradients import classifier, compare, small_buckets
from worker import check


@check()
def gradients_of_signals(rank: int, folder: Path) -> None:
    net = {'type': 'mmlocal.SigPropConvNet', 'image_size': 12}
    cfg = classifier(net, 128, ['layers.1', 'layers.2', 'layers.3'])
    cfg['backbone'] |= {
        'local_heads': {
            'type': 'mmlocal.SigPropHead',
            'num_classes': 10,
            'image_size': 12,
        },
        'local_end': True,
        'input_shape': (3, 12, 12),
    }
    for counts in (1, 2):
        compare(cfg, counts, steps=2)
    compare(cfg, 1, small_buckets, steps=2)
