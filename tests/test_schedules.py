"""The learning rates of the papers, from the configs that ship.

Every epoch against the formula, and some against what the published code
gives, which the formulas here generate, too.
"""

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


def warmup_cosine(lr: float, epochs: int) -> list[float]:
    """InfoPro on CIFAR-10, SVHN and STL-10; epochs count from 1."""
    values = []
    for e in range(1, epochs + 1):
        cosine = lr / 2 * (1 + math.cos(math.pi * e / epochs))
        share = min((e - 1) / 10, 1)
        values.append(share * cosine + (1 - share) * 0.01)
    return values


@pytest.mark.parametrize(
    ('config', 'lr', 'epochs', 'published'),
    [
        ('resnet110_cifar10', 0.8, 160, {1: 0.01, 5: 0.3252295563, 80: 0.4}),
        ('resnet110_stl10', 0.1, 160, {1: 0.01, 11: 0.0988382941, 80: 0.05}),
    ],
)
def test_warmup_and_cosine(config, lr, epochs, published):
    found = rates(f'e2e/{config}.py', epochs)
    assert found == pytest.approx(warmup_cosine(lr, epochs), abs=1e-12)
    for epoch, value in published.items():
        assert found[epoch - 1] == pytest.approx(value, abs=1e-9)


def test_imagenet_cosine():
    lr = rates('e2e/resnet101_imagenet.py', 90)
    formula = [0.2 * (1 + math.cos(math.pi * e / 90)) for e in range(90)]
    assert lr == pytest.approx(formula, abs=1e-12)
    assert lr[89] == pytest.approx(0.0001218346, abs=1e-9)


def test_segmentation_poly():
    lr = rates('e2e/deeplabv3_r101_cityscapes.py', 20001)
    for i in (0, 1, 999, 20000):
        formula = (0.01 - 1e-4) * (1 - i / 40000) ** 0.9 + 1e-4
        assert lr[i] == pytest.approx(formula, abs=1e-9)
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


@pytest.mark.parametrize(
    ('config', 'epochs', 'published'),
    [
        (
            'e2e/resnext32-16x4d_cifar100.py',
            200,
            {1: '0.0100', 6: '0.0499', 100: '0.0277', 200: '0.00500'},
        ),
        (
            'ctc/resnext32-16x4d_cifar100_transferability.py',
            300,
            {
                1: '0.0500',
                100: '0.0252',
                200: '0.000003',
                201: '0.0050',
                300: '0.000001',
            },
        ),
    ],
)
def test_contrastive_temporal_coding(config, epochs, published):
    """Epochs count from 1; the cosine of T epochs has T + 1 steps."""
    found = rates(config, epochs)
    for epoch, value in published.items():
        digits = len(value.partition('.')[2])
        assert f'{found[epoch - 1]:.{digits}f}' == value
    expected = []
    for e in range(1, epochs + 1):
        if epochs == 200:
            cosine = (1 + math.cos(math.pi * e / 201)) / 2
            share = e / 5 if e <= 5 else 0.1 + 0.9 * cosine
        elif e <= 200:
            share = (1 + math.cos(math.pi * e / 201)) / 2
        else:
            share = 0.1 * (1 + math.cos(math.pi * (e - 200) / 101)) / 2
        expected.append(0.05 * share)
    assert found == pytest.approx(expected, abs=1e-12)
