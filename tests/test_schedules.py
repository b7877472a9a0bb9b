"""The learning rates of the papers, from the configs that ship."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope

CONFIGS = Path(__file__).parents[1] / 'configs'


def rates(config: str, steps: int) -> list[float]:
    """What the real schedulers give: the rate of each epoch or iteration."""
    cfg = Config.fromfile(CONFIGS / config)
    init_default_scope(cfg.default_scope)
    optimizer = torch.optim.SGD(
        [torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr
    )
    end = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
    # `end` is what Runner fills in.
    schedulers = [
        PARAM_SCHEDULERS.build(dict(end=end, optimizer=optimizer) | scheduler)
        for scheduler in cfg.param_scheduler
    ]
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return values


def test_cifar_warmup_and_cosine():
    lr = rates('e2e/resnet110_cifar10.py', 160)
    published = {
        1: 0.01,
        2: 0.0889691614,
        5: 0.3252295563,
        10: 0.7140827009,
        11: 0.7907063525,
        80: 0.4,
        120: 0.1171572875,
        160: 0.0,
    }
    for epoch, value in published.items():
        assert lr[epoch - 1] == pytest.approx(value, abs=1e-9)


def test_stl10_warmup_starts_at_the_same_rate():
    lr = rates('e2e/resnet110_stl10.py', 80)
    published = {1: 0.01, 2: 0.0189961452, 11: 0.0988382941, 80: 0.05}
    for epoch, value in published.items():
        assert lr[epoch - 1] == pytest.approx(value, abs=1e-9)


def test_imagenet_cosine():
    lr = rates('e2e/resnet101_imagenet.py', 90)
    published = {0: 0.4, 1: 0.3998781654, 45: 0.2, 89: 0.0001218346}
    for epoch, value in published.items():
        assert lr[epoch] == pytest.approx(value, abs=1e-9)


def test_segmentation_poly():
    lr = rates('e2e/deeplabv3_r101_cityscapes.py', 20001)
    assert lr[0] == 0.01
    assert lr[1] == pytest.approx(0.0099997772, abs=1e-9)
    assert lr[20000] == pytest.approx(0.0054052786, abs=1e-9)


@pytest.mark.parametrize(
    ('config', 'milestones', 'lr0'),
    [
        ('dgl/resnet152_imagenet_50e_k2.py', (10, 20, 30, 40), 0.1),
        ('dgl/resnet110_cifar10_300e_k2.py', (150, 225), 0.01),
    ],
)
def test_dgl_steps(config, milestones, lr0):
    epochs = milestones[-1] + 1
    expected = [
        lr0 * 0.1 ** sum(epoch >= step for step in milestones)
        for epoch in range(epochs)
    ]
    assert rates(config, epochs) == pytest.approx(expected)


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
