"""The ensemble's weights, by hand."""

import pytest
import torch

from mmlocal.evaluation.ensemble import Ensemble

LOGITS = [[2.0, 0.0], [0.0, 3.0], [1.0, 1.5], [0.5, 4.0]]


def by_hand(outputs, weights):
    weights = torch.tensor(weights, dtype=torch.float64)
    weights = weights / weights.sum()
    return (torch.stack(outputs).double() * weights[:, None]).sum(0)


@pytest.mark.parametrize('kind', ['prob', 'logit'])
def test_two_modules_weigh_one_and_two_thirds(kind):
    ensemble = Ensemble(kind)
    rows = [torch.tensor(row) for row in LOGITS]
    for index, row in enumerate(rows[:2]):
        ensemble.add(index, [row[None]])
    first, second = (r.softmax(0) if kind == 'prob' else r for r in rows[:2])
    (mean,) = ensemble.mean
    torch.testing.assert_close(mean[0], first / 3 + second * 2 / 3)


@pytest.mark.parametrize('kind', ['prob', 'logit'])
@pytest.mark.parametrize('modules', [(0, 1, 2, 3), (1, 3), (2,)])
def test_weights_double_from_module_to_module(kind, modules):
    ensemble = Ensemble(kind)
    rows = [torch.tensor(row) for row in LOGITS]
    for index in modules:
        ensemble.add(index, [rows[index][None]])
    outputs = [
        rows[i].softmax(0) if kind == 'prob' else rows[i] for i in modules
    ]
    expected = by_hand(outputs, [2**i for i in modules])
    torch.testing.assert_close(ensemble.mean[0][0].double(), expected)
    assert ensemble.count == len(modules)


def test_of_pixels_and_half_precision_in_batches_of_their_own_size():
    sizes = [(4, 6), (5, 3)]
    logits = [
        [torch.randn(1, 3, *size).bfloat16() for size in sizes]
        for _ in range(3)
    ]
    ensemble = Ensemble('prob')
    for index, batches in enumerate(logits):
        ensemble.add(index, batches)
    for i, mean in enumerate(ensemble.mean):
        one, two, four = (each[i].float().softmax(1) for each in logits)
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, (one + 2 * two + 4 * four) / 7)


@pytest.mark.parametrize('classes', [(3, 4), (1, 1)])
def test_needs_the_same_classes(classes):
    ensemble = Ensemble('prob')
    with pytest.raises(ValueError, match='ensemble=None'):
        for index, count in enumerate(classes):
            ensemble.add(index, [torch.randn(2, count)])
