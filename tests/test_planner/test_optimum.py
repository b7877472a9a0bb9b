"""Plans for a budget against every split, each run in full."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from mmlocal.models.cut_points import Split
from mmlocal.planner import Planner

ALL = (None, 'block', 'selective')
BUDGETS = (1.0, 0.85, 0.7, 0.55, 0.4)


def splits(names, max_modules, modes):
    for num_modules in range(1, max_modules + 1):
        for cuts in combinations(names, num_modules - 1):
            for chosen in product(modes, repeat=num_modules):
                yield Split(list(cuts), list(chosen))


def reports(simulator, max_modules, modes):
    """What each split takes; a stem alone cannot be checkpointed."""
    for split in splits(simulator.candidates, max_modules, modes):
        try:
            yield simulator.measure(split)
        except ValueError as error:
            assert 'no whole block' in str(error)  # noqa: PT017
            assert set(split.checkpointing) != {None}  # noqa: PT017


@pytest.mark.parametrize(
    ('net', 'max_modules', 'modes'),
    [
        ('chain', 2, (None,)),
        pytest.param('chain', 2, ALL[:2], marks=pytest.mark.slow),
        pytest.param('chain', 3, ALL[::2], marks=pytest.mark.slow),
        pytest.param('vit', 2, ALL[::2], marks=pytest.mark.slow),
        pytest.param('deep', 2, (None, 'block'), marks=pytest.mark.slow),
    ],
)
def test_no_split_that_fits_takes_less_compute(
    simulate, net, max_modules, modes
):
    simulator = simulate(net, batch_size=4)
    planner = Planner(simulator)
    if net == 'deep':
        assert len(simulator.candidates) == 30
    every = list(reports(simulator, max_modules, modes))
    whole = planner.end_to_end
    if net != 'vit':
        # A linear head is cheaper than the gradient that a cut saves.
        assert min(r.total_flops for r in every) < whole.total_flops
    for part in BUDGETS:
        budget = int(part * whole.peak)
        fit = [r.total_flops for r in every if r.peak <= budget]
        found, fits = planner.within(budget, max_modules, modes)
        assert fits == bool(fit)
        if fits:
            assert found.peak <= budget
            assert found.total_flops == min(fit)
