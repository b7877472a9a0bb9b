"""The search against trying everything."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from mmlocal.models.cut_points import Split
from mmlocal.planner import Planner
from mmlocal.planner.search import Search

MODES = (None, 'block', 'selective')


@pytest.fixture(scope='module')
def planners():
    return {}


@pytest.fixture
def planner_of(simulate, planners):
    """Planners are kept: a profile takes seconds."""

    def make(net):
        if net not in planners:
            planners[net] = Planner(simulate(net, batch_size=8))
        return planners[net]

    return make


def splits(names, num_modules, modes):
    for cuts in combinations(names, num_modules - 1):
        for chosen in product(modes, repeat=num_modules):
            yield Split(list(cuts), list(chosen))


@pytest.mark.parametrize(
    ('net', 'num_modules'),
    [
        ('resnet', 2),
        ('deeplab', 2),
        ('vit', 2),
        ('unet', 3),
    ],
)
@pytest.mark.slow
def test_balanced_is_the_exhaustive_optimum(planner_of, net, num_modules):
    """Every split run in full on fake tensors, against one search."""
    planner = planner_of(net)
    found = planner.balanced(num_modules)
    peaks = [
        planner.simulator.measure(split).peak
        for split in splits(planner.simulator.candidates, num_modules, [None])
    ]
    assert found.peak == min(peaks)


@pytest.mark.parametrize('net', ['resnet', 'vit', 'deeplab'])
@pytest.mark.slow
def test_predictions_are_close_to_full_steps(planner_of, net):
    planner = planner_of(net)
    names = planner.simulator.candidates
    cuts = [names[len(names) // 3], names[-1]]
    for modes in (MODES, MODES[::-1], MODES[1:] + MODES[:1]):
        split = Split(cuts, list(modes))
        full = planner.simulator.measure(split)
        plan = planner.search.evaluate(split)
        assert plan.peak == pytest.approx(full.peak, rel=0.01)
        whole = planner.end_to_end.total_flops
        assert plan.extra_flops == full.total_flops - whole


def test_nothing_that_could_win_is_dropped(planner_of):
    """Dynamic programming against evaluating all splits and modes."""
    search = planner_of('chain').search
    plans = [
        search.evaluate(split)
        for num_modules in (1, 2, 3)
        for split in splits(search.names, num_modules, MODES)
    ]
    front = search.pareto(3, MODES)
    for plan in plans:
        assert any(
            best.peak <= plan.peak and best.extra_flops <= plan.extra_flops
            for best in front
        )
    costs = [(plan.extra_flops, -plan.peak) for plan in front]
    assert costs == sorted(costs)
    for plan in front:
        again = search.evaluate(plan.split)
        assert (again.peak, again.extra_flops) == (
            plan.peak,
            plan.extra_flops,
        )


def test_every_cut_is_ranked(planner_of):
    search = planner_of('chain').search
    plans = search.ranked(2)
    assert {plan.split.boundaries[0] for plan in plans} == set(search.names)
    peaks = [plan.peak for plan in plans]
    assert peaks == sorted(peaks)
    with pytest.raises(ValueError, match='can be cut into 1 to'):
        search.ranked(99)
    with pytest.raises(ValueError, match='no list of blocks'):
        Search([None], search.profile).ranked(2, 'block')


def test_freed_gradients_are_not_carried(planner_of):
    search = planner_of('vit').search
    modes, profile = search.modes, search.profile
    split = Split(search.names[1:3], [None] * 3)
    kept = Search(modes, profile).evaluate(split)
    freed = Search(modes, profile, by_module=True).evaluate(split)
    assert freed.peak < kept.peak
