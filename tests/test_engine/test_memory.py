"""What autograd holds, counted by the bytes of tensors saved for backward."""

from __future__ import annotations

import weakref

import pytest
import torch

from mmlocal.engine.optim import LocalOptimWrapper

MIB = 2**20


class Ledger:
    """Live bytes of saved tensors; a storage counts once."""

    def __init__(self, model):
        self.weights = {
            p.untyped_storage().data_ptr() for p in model.parameters()
        }
        self.live: dict[int, list] = {}
        self.peaks = [0]

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key in self.weights:
            return tensor
        box = _Box(tensor)
        entry = self.live.setdefault(key, [storage.nbytes(), 0])
        entry[1] += 1
        weakref.finalize(box, self.release, key)
        self.peaks[-1] = max(self.peaks[-1], self.total())
        return box

    def release(self, key):
        self.live[key][1] -= 1
        if not self.live[key][1]:
            del self.live[key]

    @staticmethod
    def unpack(box):
        return box.tensor if isinstance(box, _Box) else box

    def total(self):
        return sum(size for size, _ in self.live.values())


class _Box:
    def __init__(self, tensor):
        self.tensor = tensor.detach()


def module_peaks(helpers, depth, split, batch_size=2):
    """Peak of saved bytes a module, in MiB an image."""
    backbone = {'type': 'mmlocal.CIFARResNet', 'depth': depth}
    if split:
        name = {'type': 'mmlocal.PublishedSplit', 'name': f'infopro/{split}'}
        backbone = {
            'type': 'mmlocal.LocalSupervisedBackbone',
            'backbone': backbone,
            'boundaries': name,
            'local_heads': {
                'type': 'mmlocal.InfoProHead',
                'task': 'contrast',
                'num_classes': 10,
            },
        }
    model = helpers.build(helpers.classifier_cfg(backbone, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrap = LocalOptimWrapper(optimizer=optimizer)
    ledger = Ledger(model)
    propagate, after = wrap.local_backward, []

    def local_backward(loss):
        propagate(loss)
        after.append(ledger.total())
        ledger.peaks.append(0)

    wrap.local_backward = local_backward
    batch = helpers.classification_batch(batch_size)
    with torch.autograd.graph.saved_tensors_hooks(ledger.pack, ledger.unpack):
        model.train_step(batch, wrap)
    assert ledger.total() == 0
    # Only what is shared with the next module's input may outlive a module.
    assert all(size <= 32 * 32 * 64 * 4 * batch_size for size in after)
    return [peak / batch_size / MIB for peak in ledger.peaks]


# Measured on the published classes, auxiliary nets included, float32.
@pytest.mark.parametrize(
    ('depth', 'split', 'expected'),
    [
        (32, None, [2.382]),
        (32, 'resnet32-k2', 1.993),
        (32, 'resnet32-k4', 1.171),
        (32, 'resnet32-k8', 0.846),
        (32, 'resnet32-k16', 0.596),
        (110, 'resnet110-cifar10-balanced-k3', [2.923, 2.795, 3.074]),
        *(
            pytest.param(110, split, peak, marks=pytest.mark.slow)
            for split, peak in (
                (None, [8.092]),
                ('resnet110-cifar10-balanced-k2', [4.174, 4.264]),
                ('resnet110-k16', 1.096),
            )
        ),
    ],
)
def test_saved_bytes_of_the_published_splits(helpers, depth, split, expected):
    found = module_peaks(helpers, depth, split)
    if isinstance(expected, float):
        found, expected = [max(found)], [expected]
    # BCE with logits does without a sigmoid's output: 0.04 MiB less.
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs - 0.05 < ours < theirs + 0.002
