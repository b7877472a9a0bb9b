"""Mutual information of correlated Gaussians, whose value is known."""

import math

import numpy as np
import pytest
import torch

from mmlocal.analysis.mine import MineSetting, StatisticsNet, estimate
from mmlocal.analysis.mine import estimator as module
from mmlocal.analysis.seeded import seeded

BOUNDS = ['dv', 'nwj', 'infonce']
QUICK = dict(hidden=32, iterations=200, lr=3e-3, batch_size=128, interval=50)


def gaussians(num: int, dim: int, rho: float, seed: int = 0):
    """(a, b) and their mutual information, -d/2 ln(1 - rho^2)."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(num, dim, generator=generator)
    noise = torch.randn(num, dim, generator=generator)
    b = rho * a + math.sqrt(1 - rho**2) * noise
    return a, b, -dim / 2 * math.log(1 - rho**2)


@pytest.mark.parametrize('bound', BOUNDS)
def test_correlated_gaussians(bound):
    a, b, true = gaussians(4000, 1, 0.9, seed=1)
    found = estimate(a, b, MineSetting(bound=bound, **QUICK))
    # The mean of the true log-ratio over 2,000 pairs is off by 0.02.
    assert found.value == pytest.approx(true, abs=0.08)
    assert found.in_sample == pytest.approx(true, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize('bound', BOUNDS)
def test_several_dimensions(bound):
    a, b, true = gaussians(4000, 3, 0.8, seed=2)
    found = estimate(a, b, MineSetting(bound=bound, **QUICK))
    assert true - 0.3 < found.value < true + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ('bound', 'iterations'),
    # The last learns from all pairs of a batch.
    [('dv', 600), ('nwj', 600), ('infonce', 200)],
)
def test_five_dimensions(bound, iterations):
    a, b, true = gaussians(10_000, 5, 0.8)
    setting = MineSetting(
        bound=bound,
        holdout=0.3,
        hidden=64,
        iterations=iterations,
        lr=2e-3,
        batch_size=512,
        interval=50,
    )
    found = estimate(a, b, setting)
    assert found.value == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize('bound', BOUNDS)
def test_nothing_is_found_where_nothing_is(bound):
    """Held-out; in the sample, the more the longer it is trained."""
    a, b, _ = gaussians(400, 5, 0.0)
    found = estimate(a, b, MineSetting(bound=bound, **QUICK))
    assert abs(found.value) < 0.05
    assert found.in_sample > 0.15


@pytest.mark.parametrize('bound', BOUNDS)
def test_it_does_not_depend_on_the_scale(bound):
    a, b, _ = gaussians(1000, 1, 0.9)
    setting = MineSetting(bound=bound, hidden=16, iterations=30, lr=3e-3)
    found = estimate(a, b, setting)
    other = estimate(8 * a + 16, b / 4, setting)
    assert other.value == pytest.approx(found.value, abs=1e-3)


def test_published_way_of_reading():
    """All pairs, the mean of the last steps on batches; also short runs."""
    a, b, _ = gaussians(300, 2, 0.5)
    setting = MineSetting.of(
        'published', 'xt', hidden=16, iterations=7, lr=1e-2
    )
    found = estimate(a, b, setting)
    assert found.value == found.in_sample
    # Of 300 pairs no 5,000 can be drawn.
    assert found.ceiling == pytest.approx(math.log(300))
    values = [
        value
        for value, _ in module._train(
            module._critic((2, 2), setting, 0),
            module._bound(setting),
            [a, b],
            torch.arange(300),
            setting,
            seed=0,
        )
    ]
    assert len(values) == 7
    assert found.value == pytest.approx(np.mean(values))


def test_independent_partners_come_from_both_sides_apart(monkeypatch):
    """Steps written out: three draws, one for the pairs, two apart."""
    a, b, _ = gaussians(50, 1, 0.9)
    setting = MineSetting.of(
        'published', 'ty', batch_size=20, hidden=8, iterations=1
    )
    seen = []
    parts = StatisticsNet._parts

    def spy(self, a, b):
        seen.append((a, b))
        return parts(self, a, b)

    monkeypatch.setattr(StatisticsNet, '_parts', spy)
    estimate(a, b, setting, seed=5)
    generator = seeded(5, 2)
    draws = [torch.randperm(50, generator=generator)[:20] for _ in range(3)]
    pairs, apart = seen
    assert torch.equal(pairs[0], a[draws[0]])
    assert torch.equal(pairs[1], b[draws[0]])
    assert torch.equal(apart[0], a[draws[1]])
    assert torch.equal(apart[1], b[draws[2]])


def test_halves_choose_for_one_another(monkeypatch):
    """The value is not the best look: that would be a choice by itself."""
    # Of the first half and the second, before each step and at the end.
    answers = iter([0, 0, 5, 1, 2, 7])
    monkeypatch.setattr(
        module, '_read', lambda *args: (float(next(answers)), 9.0)
    )
    a, b, _ = gaussians(100, 1, 0.5)
    setting = MineSetting(hidden=4, iterations=2, interval=1)
    # The first half is best at look 1, the second at look 2.
    assert estimate(a, b, setting).value == (1 + 2) / 2


def test_what_the_value_is_read_from_is_not_trained_on():
    a, b, _ = gaussians(101, 1, 0.5)
    setting = MineSetting()
    fit, halves = module._parts(101, setting, seed=0)
    every = torch.cat([fit, *halves])
    assert sorted(every.tolist()) == list(range(101))
    # Ordered data: partners of the held-out are not neighbours there.
    assert not torch.equal(halves[0], halves[0].sort().values)
    other = module._parts(101, setting, seed=1)[0]
    assert not torch.equal(fit, other)


def test_random_numbers_are_its_own():
    a, b, _ = gaussians(200, 1, 0.5)
    setting = MineSetting(hidden=8, iterations=10)
    state = torch.get_rng_state()
    one = estimate(a, b, setting, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    with torch.no_grad():
        assert estimate(a, b, setting, seed=3) == one
    assert estimate(a, b, setting, seed=4) != one


def test_graphs_do_not_grow():
    """Nothing of a step is kept alive by the next."""
    a, b, _ = gaussians(100, 1, 0.5)
    setting = MineSetting(hidden=4, iterations=30)
    bound = module._bound(setting)
    critic = module._critic((1, 1), setting, 0)
    for _ in module._train(
        critic, bound, [a, b], torch.arange(100), setting, seed=0
    ):
        assert bound.log_mean.grad_fn is None


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'bound': 'mine'}, "bound='mine' is unknown"),
        ({'iterations': 0}, 'iterations=0 must be 1 or more'),
        ({'holdout': 1.0}, r'holdout=1.0: must be in \[0, 1\)'),
        ({'bound': 'infonce', 'init_std': 0.1}, 'leave it out'),
        ({'bound': 'infonce', 'marginals': 'independent'}, "write 'shifted'"),
        ({'critic': 'separable', 'marginals': 'independent'}, 'shifted'),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MineSetting(**settings)


def test_too_few_and_not_finite():
    a, b, _ = gaussians(5, 1, 0.5)
    with pytest.raises(ValueError, match='5 images are too few'):
        estimate(a, b, MineSetting())
    a, b, _ = gaussians(50, 1, 0.5)
    a[:, 0] = math.inf
    with pytest.raises(ValueError, match='not finite'):
        estimate(a, b, MineSetting(standardize=False))
