"""Beside the configs that use it, which test_schedules.py has."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS


def build(optimizer):
    segments = [dict(end=3), dict(begin=3, end=6, factor=0.1)]
    return [
        PARAM_SCHEDULERS.build(
            dict(type='mmlocal.SegmentCosineLR', optimizer=optimizer, **each)
        )
        for each in segments
    ]


def rates(optimizer, schedulers, steps):
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


@pytest.mark.parametrize('stop', [2, 3, 4])
def test_it_goes_on_after_resume(stop):
    """Within a segment, and where the next one begins."""
    first, second = (torch.optim.SGD([torch.zeros(1)], 0.8) for _ in range(2))
    schedulers, resumed = build(first), build(second)
    before = rates(first, schedulers, stop)
    for new, old in zip(resumed, schedulers, strict=True):
        new.load_state_dict(old.state_dict())
    second.load_state_dict(first.state_dict())
    expected = rates(first, schedulers, 6 - stop)
    assert rates(second, resumed, 6 - stop) == expected
    assert before[0] == pytest.approx(0.8 * (2 + 2**0.5) / 4)
    assert (before + expected)[3] == pytest.approx(before[0] / 10)
