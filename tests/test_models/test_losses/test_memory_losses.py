"""The losses of contrastive temporal coding, against their equations."""

import math

import pytest
import torch
from torch.nn import functional as F

from mmlocal.models.losses import ContrastiveMemoryLoss, InstanceMemoryLoss
from mmlocal.models.losses.contrastive_memory import binary_nce
from mmlocal.models.losses.memory import Memory


def embeddings(count, dim=6, **kwargs):
    return F.normalize(torch.randn(count, dim, **kwargs), dim=1)


def test_memory_starts_about_normalized():
    norms = Memory(2000, 128, 0.9).rows.norm(dim=1)
    assert norms.mean().item() == pytest.approx(0.998, abs=0.003)
    assert norms.std().item() == pytest.approx(0.039, abs=0.004)


def test_memory_is_written_where_it_should():
    memory = Memory(5, 6, 0.7)
    before = memory.rows.clone()
    feats = embeddings(2)
    memory.write(feats, torch.tensor([4, 1]))
    for row, feat in zip((4, 1), feats, strict=True):
        mixed = 0.7 * before[row] + 0.3 * feat
        torch.testing.assert_close(memory.rows[row], mixed / mixed.norm())
    for row in 0, 2, 3:
        assert memory.rows[row].equal(before[row])
    memory.write(feats, torch.tensor([0, 1]), momentum=0)
    torch.testing.assert_close(memory.rows[:2], feats)


def test_the_first_of_equal_images_counts():
    memory, other = Memory(5, 6, 0.5), Memory(5, 6, 0.5)
    other.load_state_dict(memory.state_dict())
    feats = embeddings(4)
    memory.write(feats, torch.tensor([3, 0, 3, 0]))
    other.write(feats[:2], torch.tensor([3, 0]))
    assert memory.rows.equal(other.rows)


def test_instance_loss_equals_definition_with_gradient():
    loss = InstanceMemoryLoss(7, 6, temperature=0.3).double()
    rows = loss.memory.rows
    raw = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([5, 0, 2])
    found = loss(F.normalize(raw, dim=1), index)
    total = 0.0
    for i, v in zip(index, F.normalize(raw, dim=1), strict=True):
        scores = torch.stack([(v @ row / 0.3).exp() for row in rows])
        total = total - (scores[i] / scores.sum()).log() / 3
    torch.testing.assert_close(found, total, rtol=1e-6, atol=0)
    for one, other in zip(
        torch.autograd.grad(found, raw),
        torch.autograd.grad(total, raw),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_a_write_before_the_gradient_is_refused():
    loss = InstanceMemoryLoss(7, 6)
    feats, index = embeddings(2, requires_grad=True), torch.tensor([1, 2])
    value = loss(feats, index)
    loss.update(feats.detach(), index)
    with pytest.raises(RuntimeError, match='modified by an inplace'):
        value.backward()


@pytest.mark.parametrize(
    ('negatives', 'published'), [(16384, 21.418), (64, 10.343)]
)
def test_binary_nce_at_equal_scores(negatives, published):
    scores = torch.full((3, negatives + 1), 1 / 50_000)
    value = 2 * binary_nce(scores, 50_000)
    assert value.item() == pytest.approx(published, abs=6e-4)


def test_binary_nce_is_exact_in_float32():
    scores = torch.rand(2, 16385) / 25_000
    value = binary_nce(scores, 50_000)
    c, eps, s = 16384 / 50_000, 1e-7, scores.double()
    expected = -(s[:, 0] / (s[:, 0] + c + eps)).log() - (
        (c / (s[:, 1:] + c + eps)).log().sum(1)
    )
    assert value.item() == pytest.approx(expected.mean().item(), rel=1e-6)


LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2, 0, 1, 2, 2, 0])


def contrastive(positive='exact', negatives=8):
    loss = ContrastiveMemoryLoss(12, 6, 0.2, 0.5, negatives, positive)
    loss.set_labels(LABELS)
    return loss


def test_contrastive_loss_equals_definition_with_gradient():
    """Also in later calls, in which Z is that of the first."""
    loss = contrastive(negatives=4).double()
    index = torch.tensor([3, 0, 9])
    scales = None
    for step in range(2):
        raw_v, raw_w = torch.randn(2, 3, 6, dtype=torch.float64).unbind()
        raw_v.requires_grad_()
        raw_w.requires_grad_()
        v, w = F.normalize(raw_v, dim=1), F.normalize(raw_w, dim=1)
        drawn = loss.draw(index, seed=step)
        found = loss(v, w, index, seed=step)
        raw = [
            torch.stack(
                [
                    torch.stack([(rows[j] @ x / 0.2).exp() for j in row])
                    for x, row in zip(feats, drawn, strict=True)
                ]
            )
            for feats, rows in (
                (v, loss.memory_w.rows),
                (w, loss.memory_v.rows),
            )
        ]
        if scales is None:
            scales = [12 * r.detach().mean() for r in raw]
        c = 4 / 12
        expected = 0.0
        for r, z in zip(raw, scales, strict=True):
            s = r / z
            hit = (s[:, 0] / (s[:, 0] + c + 1e-7)).log().sum()
            miss = (c / (s[:, 1:] + c + 1e-7)).log().sum()
            expected = expected - (hit + miss) / 3
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
        for one, other in zip(
            torch.autograd.grad(found, (raw_v, raw_w), retain_graph=True),
            torch.autograd.grad(expected, (raw_v, raw_w)),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        loss.update(v.detach(), w.detach(), index)
    assert not loss.scales.requires_grad


def test_each_embedding_goes_to_its_own_memory():
    loss = contrastive()
    v, w = embeddings(2), embeddings(2)
    index = torch.tensor([11, 4])
    loss.update(v, w, index, momentum=0)
    torch.testing.assert_close(loss.memory_v.rows[index], v)
    torch.testing.assert_close(loss.memory_w.rows[index], w)


@pytest.mark.parametrize('positive', ['exact', 'relax'])
def test_drawn_images(positive):
    """The positive has the anchor's class, no negative has; none is twice,
    and each that may be drawn is, about equally often."""
    loss = contrastive(positive, negatives=5)
    index = torch.arange(12).repeat(100)
    drawn = loss.draw(index, seed=1)
    assert drawn.shape == (1200, 6)
    same = LABELS[drawn] == LABELS[index, None]
    assert same[:, 0].all() and not same[:, 1:].any()
    assert all(len({*row}) == 5 for row in drawn[:, 1:].tolist())
    assert drawn[:, 0].equal(index) == (positive == 'exact')
    counts = drawn[index == 0, 1:].flatten().bincount(minlength=12)
    assert (counts > 0).equal(LABELS[0] != LABELS)
    chance = 5 / 8
    spread = 5 * math.sqrt(100 * chance * (1 - chance))
    assert (counts[LABELS != 0] - 100 * chance).abs().max() < spread
    if positive == 'relax':
        found = drawn[LABELS[index] == 0, 0].bincount(minlength=12)
        assert (found > 50).equal(LABELS == 0)


def test_draws_follow_from_the_seed():
    loss, index = contrastive(negatives=4), torch.arange(12)
    state = torch.get_rng_state()
    first, again, other = (loss.draw(index, seed) for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)
    assert torch.get_rng_state().equal(state)
    assert not loss.draw(index).equal(loss.draw(index))


def test_more_negatives_than_there_are():
    with pytest.raises(ValueError, match='only 8 of other.*num_negatives=8'):
        contrastive(negatives=9)
    contrastive(negatives=8).draw(torch.arange(12))


def test_labels_are_asked_for():
    loss = ContrastiveMemoryLoss(12, 6, num_negatives=2)
    with pytest.raises(ValueError, match='CTCStageHook'):
        loss(embeddings(2), embeddings(2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match='has 5 images: write num_images=5'):
        loss.set_labels(torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="positive='any' is unknown"):
        ContrastiveMemoryLoss(12, positive='any')


def test_float32_under_autocast():
    index = torch.tensor([0, 5])
    feats = embeddings(2), embeddings(2)
    instance, contrast = InstanceMemoryLoss(12, 6), contrastive()
    expected = instance(feats[0], index), contrast(*feats, index, 3)
    with torch.autocast('cpu', torch.bfloat16):
        found = instance(feats[0], index), contrast(*feats, index, 3)
    assert found == expected
