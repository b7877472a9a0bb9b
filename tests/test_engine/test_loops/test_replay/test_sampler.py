"""Which module comes next."""

from collections import Counter

import pytest

from mmlocal.engine.loops.replay.sampler import ModuleSampler


def draws(sampler, count):
    return [sampler.next() for _ in range(count)]


def test_round_robin():
    sampler = ModuleSampler(3, order='round_robin')
    assert draws(sampler, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_warm_up():
    """Twice each; again from its beginning if asked meanwhile."""
    sampler = ModuleSampler(3)
    sampler.warm_up()
    assert draws(sampler, 4) == [0, 0, 1, 1]
    sampler.warm_up()
    assert draws(sampler, 6) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize('noise', [0.0, 0.1, 0.5])
def test_frequencies(noise):
    """The slow module is drawn with p = 1 - noise, S = 1 / (1 - noise)."""
    count, weights = 20_000, [1, 1, 1 - noise, 1]
    sampler = ModuleSampler(4, slow={'module': 2, 'factor': 1 / (1 - noise)})
    found = Counter(draws(sampler, count))
    for index, weight in enumerate(weights):
        p = weight / sum(weights)
        deviation = (count * p * (1 - p)) ** 0.5
        assert abs(found[index] - count * p) < 4 * deviation


def test_seeds():
    first, same, other = (ModuleSampler(5, seed=seed) for seed in (1, 1, 2))
    sequence = draws(first, 50)
    assert sequence == draws(same, 50) != draws(other, 50)


@pytest.mark.parametrize('order', ['random', 'round_robin'])
def test_a_state_goes_on(order):
    sampler = ModuleSampler(4, order=order, seed=1)
    sampler.warm_up()
    draws(sampler, 3)
    for _ in range(2):  # within the warm-up, and behind it
        other = ModuleSampler(4, order=order, seed=2)
        other.load_state_dict(sampler.state_dict())
        assert draws(sampler, 30) == draws(other, 30)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'order': 'fast'}, "sampler.order='fast'"),
        ({'slow': {'module': 3, 'factor': 2}}, 'there are 3 modules'),
        ({'slow': {'module': 1, 'factor': 0.5}}, 'from 1 on'),
        ({'slow': {'module': 1}}, r'write dict\(module=3, factor=1.2\)'),
        (
            {'slow': {'module': 1, 'factor': 2}, 'order': 'round_robin'},
            "write order='random'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ModuleSampler(3, **kwargs)
