"""Which modules go to one rank."""

from itertools import combinations

import torch

from mmlocal.partition.stages import balance, module_flops


def test_balance_is_the_best_of_all_ways():
    generator = torch.Generator().manual_seed(0)
    for modules in range(1, 8):
        costs = torch.rand(modules, generator=generator).tolist()
        for count in range(1, modules + 1):
            sizes = balance(costs, count)
            assert len(sizes) == count
            assert min(sizes) > 0
            assert sum(sizes) == modules
            found = largest(costs, sizes)
            ways = combinations(range(1, modules), count - 1)
            best = min(
                largest(costs, differences([0, *way, modules])) for way in ways
            )
            assert abs(found - best) < 1e-9


def differences(ends):
    return [b - a for a, b in zip(ends, ends[1:], strict=False)]


def largest(costs, sizes):
    costs = list(costs)
    return max(sum(costs.pop(0) for _ in range(size)) for size in sizes)


def test_flops_of_modules_are_those_of_their_steps(helpers):
    """Of three modules with linear heads, forward and twice in backward."""
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': {'type': 'mmlocal.CIFARResNet', 'depth': 8},
        'boundaries': ['layer2.0', 'layer3.0'],
        'local_heads': {
            'type': 'mmlocal.GreedyHead',
            'num_classes': 10,
            'net': 'linear',
        },
        'input_shape': (3, 32, 32),
    }
    cfg = {
        'model': helpers.classifier_cfg(backbone, 64),
        'default_scope': 'mmpretrain',
        'optim_wrapper': {
            'type': 'mmlocal.LocalOptimWrapper',
            'optimizer': {'type': 'SGD', 'lr': 0.1},
        },
        'train_dataloader': {
            'batch_size': 2,
            'dataset': {'image_size': 32},
        },
    }
    # Products of one image: of 3x3 convolutions, and of the shortcuts.
    products = [
        32 * 32 * 9 * (3 * 16 + 2 * 16 * 16) + 16 * 10,
        16 * 16 * (9 * (16 * 32 + 32 * 32) + 16 * 32) + 32 * 10,
        8 * 8 * (9 * (32 * 64 + 64 * 64) + 32 * 64) + 64 * 10,
    ]
    # The first layer of a module has no gradient of its input.
    inputs = [32 * 32 * 27 * 16, 0, 0]
    inputs[1] = 16 * 16 * (9 * 16 * 32 + 16 * 32)
    inputs[2] = 8 * 8 * (9 * 32 * 64 + 32 * 64)
    expected = [
        2 * 2 * (3 * both - first)
        for both, first in zip(products, inputs, strict=True)
    ]
    assert module_flops(cfg) == expected
