import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.losses import SupConLoss
from mmlocal.registry import MODELS

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2])


def naive_supcon(feats, labels, temperature):
    """The definition, an anchor at a time."""
    total = 0.0
    for i in range(len(labels)):
        sim = feats @ feats[i] / temperature
        others = [a for a in range(len(labels)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        norm = sim[others].exp().sum().log()
        terms = [sim[p] - norm for p in positives]
        total = total + sum(terms) / max(1, len(positives))
    return -total / len(labels)


def test_equals_definition_with_gradient():
    raw = torch.randn(8, 16, dtype=torch.float64, requires_grad=True)
    for temperature in (0.07, 0.5):
        loss = SupConLoss(temperature)(F.normalize(raw, dim=1), LABELS)
        expected = naive_supcon(F.normalize(raw, dim=1), LABELS, temperature)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(
            *(torch.autograd.grad(value, raw)[0] for value in (loss, expected))
        )


def test_published_value():
    """``python tests/test_models/vectors.py`` prints it."""
    raw = np.random.RandomState(2).standard_normal((8, 128))
    feats = F.normalize(torch.from_numpy(raw), dim=1)
    loss = SupConLoss()(feats, LABELS)
    assert loss.item() == pytest.approx(2.973703775408, rel=1e-10)


@pytest.mark.parametrize(
    ('labels', 'expected'),
    [
        ([0] * 8, np.log(7)),
        # Half of the anchors have no positive, but count in the mean.
        ([0, 0, 0, 0, 1, 2, 3, 4], np.log(7) / 2),
        (range(8), 0.0),
    ],
)
def test_identical_embeddings(labels, expected):
    feats = F.normalize(torch.ones(8, 4, dtype=torch.float64), dim=1)
    loss = SupConLoss()(feats, torch.tensor(list(labels)))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_single_image_gives_zero_loss_and_gradient():
    raw = torch.randn(1, 4, requires_grad=True)
    loss = SupConLoss()(F.normalize(raw, dim=1), torch.tensor([3]))
    loss.backward()
    assert loss.item() == 0
    assert raw.grad.abs().max() == 0


def test_float32_under_autocast():
    feats = F.normalize(torch.randn(8, 16), dim=1)
    expected = SupConLoss()(feats, LABELS)
    with torch.autocast('cpu', torch.bfloat16):
        loss = SupConLoss()(feats, LABELS)
    assert torch.equal(loss, expected)
    half = SupConLoss()(feats.bfloat16(), LABELS)
    assert half.dtype == torch.float32


@pytest.mark.parametrize('labels', [torch.eye(8), torch.rand(8)])
def test_soft_labels_are_refused(labels):
    with pytest.raises(ValueError, match='Mixup.*softmax'):
        SupConLoss()(torch.randn(8, 4), labels)


def test_is_registered():
    loss = MODELS.build({'type': 'mmlocal.SupConLoss', 'temperature': 0.2})
    assert isinstance(loss, SupConLoss)
    assert loss.temperature == 0.2


def test_two_views_and_a_base_temperature():
    """The loss of layer-wise training: the twin is always a positive."""
    raw = torch.randn(16, 6, dtype=torch.float64)
    feats, labels = F.normalize(raw, dim=1), LABELS.repeat(2)
    loss = SupConLoss(0.1, base_temperature=0.07)(feats, labels)
    expected = naive_supcon(feats, labels, 0.1) * 0.1 / 0.07
    torch.testing.assert_close(loss, expected)
    alone = SupConLoss(0.1, 0.07)(feats, torch.arange(8).repeat(2))
    assert alone > loss.new_zeros(()) + 1
