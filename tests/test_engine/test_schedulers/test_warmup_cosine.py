"""Beside the configs that use it, which test_schedules.py has."""

import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS


def test_the_cosine_follows_the_length_of_the_run():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
    scheduler = PARAM_SCHEDULERS.build(
        dict(type='mmlocal.WarmupCosineLR', optimizer=optimizer, end=30)
    )
    values = []
    for _ in range(30):
        values.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert values[0] == 0.01
    assert values[20] == pytest.approx(0.4 * (1 + math.cos(math.pi * 0.7)))
    assert values[29] == 0


def test_warmup_goes_on_after_resume():
    def build():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.8)
        return optimizer, PARAM_SCHEDULERS.build(
            dict(type='mmlocal.WarmupCosineLR', optimizer=optimizer, end=160)
        )

    optimizer, scheduler = build()
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    _, resumed = build()
    resumed.load_state_dict(scheduler.state_dict())
    optimizer.step()
    scheduler.step()
    resumed.step()
    assert resumed.get_last_value() == scheduler.get_last_value()
