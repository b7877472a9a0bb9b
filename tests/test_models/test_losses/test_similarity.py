import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.losses import SimilarityMatchingLoss
from mmlocal.models.losses.similarity import similarity

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2])


def by_definition(feats, target):
    """A pair at a time, in float64."""
    rows = []
    for feat in feats.double():
        if feat.ndim == 3 and feat.shape[0] > 3 and feat.shape[1] > 1:
            feat = torch.stack([channel.std() for channel in feat])
        feat = feat.flatten() - feat.mean()
        rows.append(feat / (feat.square().sum() + 1e-12).sqrt())
    total = 0
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            total += ((a @ b).clamp(-1, 1) - target[i][j]) ** 2
    return total / len(rows) ** 2


@pytest.mark.parametrize('shape', [(16,), (5, 4, 4), (3, 4, 4), (5, 1, 6)])
@pytest.mark.parametrize('target', ['onehot', 'centered'])
def test_equals_definition_with_gradient(shape, target):
    feats = torch.randn(8, *shape, dtype=torch.float64, requires_grad=True)
    loss = SimilarityMatchingLoss(4, target)(feats, LABELS)
    other = 0 if target == 'onehot' else -1 / 3
    wanted = [[1 if a == b else other for b in LABELS] for a in LABELS]
    expected = by_definition(feats, wanted)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(value, feats)[0] for value in (loss, expected))
    )


@pytest.mark.parametrize('num_classes', [2, 4, 10])
def test_perfect_clusters(num_classes):
    """0 with centred targets; with others what is left is known."""
    labels = torch.arange(num_classes).repeat(3)
    feats = F.one_hot(labels).float()
    centered = SimilarityMatchingLoss(num_classes, 'centered')
    assert centered(feats, labels).item() == pytest.approx(0, abs=1e-12)
    loss = SimilarityMatchingLoss(num_classes)(feats, labels)
    expected = 1 / (num_classes * (num_classes - 1))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_four_classes():
    labels = torch.arange(4)
    loss = SimilarityMatchingLoss(4)(torch.eye(4), labels)
    assert loss.item() == pytest.approx(0.0833, abs=5e-5)


def test_soft_labels():
    feats, soft = torch.randn(8, 6), torch.rand(8, 4).softmax(1)
    loss = SimilarityMatchingLoss(4)(feats, soft)
    torch.testing.assert_close(
        loss, F.mse_loss(similarity(feats), soft @ soft.T)
    )
    hard = F.one_hot(LABELS, 4).float()
    for target in ('onehot', 'centered'):
        loss = SimilarityMatchingLoss(4, target)
        assert torch.equal(loss(feats, hard), loss(feats, LABELS))


def test_constant_features_have_a_finite_gradient():
    for feats in (torch.ones(4, 8), torch.ones(4, 8, 3, 3)):
        feats.requires_grad_()
        SimilarityMatchingLoss(4)(feats, torch.arange(4)).backward()
        assert feats.grad.isfinite().all()


def test_float32_under_autocast():
    feats = torch.randn(8, 16)
    expected = SimilarityMatchingLoss(4)(feats, LABELS)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(SimilarityMatchingLoss(4)(feats, LABELS), expected)
    half = SimilarityMatchingLoss(4)(feats.bfloat16(), LABELS)
    assert half.dtype == torch.float32


def test_unknown_target():
    with pytest.raises(ValueError, match="local_heads.target='cosine'.*oneh"):
        SimilarityMatchingLoss(4, 'cosine')
