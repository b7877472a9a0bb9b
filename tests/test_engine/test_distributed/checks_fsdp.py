"""LocalFSDP against one process and against averaged gradients."""

from __future__ import annotations

import warnings
from copy import deepcopy
from pathlib import Path

import torch
import torch.distributed as dist
from checks_gradients import (
    average,
    batch_for,
    classifier,
    models,
    optim_wrapper,
    own_layers,
    segmentor,
)
from conftest import build, classification_batch
from mmpretrain.models.backbones import ResNet_CIFAR
from torch import nn
from torch.distributed.tensor import DTensor
from worker import PREBUILT, check

from mmlocal.engine.distributed import LocalFSDP
from mmlocal.engine.optim import LocalAmpOptimWrapper
from mmlocal.registry import MODELS

# Of FSDP, of layers whose output is reshaped.
warnings.filterwarnings('ignore', message='FSDP2-wrapped module')
GROUP_NORM = {'type': 'GN', 'num_groups': 2}
# Two steps, each of two batches.
MICRO_STEPS = 4


@MODELS.register_module()
class ShallowResNetCIFAR(ResNet_CIFAR):
    arch_settings = {18: (ResNet_CIFAR.arch_settings[18][0], (1, 1, 1, 1))}


def nets() -> dict[str, dict]:
    """Without BatchNorm, so that ranks add up to one process."""
    resnet = {
        'type': 'mmlocal.ShallowResNetCIFAR',
        'depth': 18,
        'stem_channels': 4,
        'base_channels': 4,
        'norm_cfg': GROUP_NORM,
    }
    vgg = {
        'type': 'mmlocal.LayerwiseVGG',
        'arch': [6, 'M', 8, 'M', 10],
        'fc_channels': (),
        'norm': False,
        'drop_rate': 0.0,
    }
    vit = deepcopy(models()['vit'])
    vit['backbone']['backbone']['drop_rate'] = 0
    vgg = classifier(vgg, 640, ['features.2'])
    vgg['neck'] = None  # ends in vectors
    return {
        'resnet': classifier(resnet, 32, ['layer2.0', 'layer4.0']),
        'vgg': vgg,
        'vit': vit,
    }


PREBUILT += nets().values()


def whole(tensors) -> list[torch.Tensor]:
    return [
        t.full_tensor() if isinstance(t, DTensor) else t.detach()
        for t in tensors
    ]


def left_whole(model: nn.Module) -> list[str]:
    return [
        name
        for name, weight in model.named_parameters()
        if not isinstance(weight, DTensor)
    ]


def part_of(batch: dict) -> dict:
    rank, world = dist.get_rank(), dist.get_world_size()
    size = len(batch['inputs']) // world
    part = slice(rank * size, (rank + 1) * size)
    return {key: value[part] for key, value in batch.items()}


def losses_of(log: dict, wrap) -> torch.Tensor:
    values = [log['loss'], *wrap.step_log.values()]
    return torch.stack([value.detach().float() for value in values])


def compare_training(cfg: dict, **settings) -> None:
    """Steps as in one process, and nothing whole between modules."""
    curves, weights = [], []
    for sharded in (False, True):
        model = build(cfg)
        outer = LocalFSDP(model, **settings) if sharded else model
        wrap = optim_wrapper(
            outer,
            weight_decay=0.01,
            accumulative_counts=2,
            clip_grad={'max_norm': 1.0},
        )
        trained = []
        if sharded:
            end_module = outer.end_module

            def watch(end_module=end_module, model=model, seen=trained):
                seen.append(left_whole(model))
                end_module()

            outer.end_module = watch
        curve = []
        for step in range(MICRO_STEPS):
            batch = classification_batch(6, seed=step)
            log = outer.train_step(part_of(batch) if sharded else batch, wrap)
            curve.append(losses_of(log, wrap))
        curve = torch.stack(curve)
        if sharded:
            cuts = len(cfg['backbone']['boundaries'])
            assert len(trained) == MICRO_STEPS * cuts
            # A module with frozen or unused layers might.
            assert not any(trained)
            assert not left_whole(model)
            dist.all_reduce(curve)
            curve /= dist.get_world_size()
        curves.append(curve)
        weights.append(whole(model.parameters()))
    assert torch.allclose(*curves, rtol=1e-5, atol=1e-6)
    assert curves[0].std(0).min() > 1e-4
    for one, many in zip(*weights, strict=True):
        assert torch.allclose(one, many, rtol=1e-5, atol=2e-6)


@check(2, 3)
def sharded_training(rank: int, folder: Path) -> None:
    compare_training(nets()['resnet'])


@check()
def sharded_training_by_unit(rank: int, folder: Path) -> None:
    """Of layers that stand alone, and of tokens."""
    by_unit = {'reshard_after_forward': True}
    compare_training(nets()['vgg'], prefetch=False, **by_unit)
    compare_training(nets()['vit'], accumulate='whole', **by_unit)


def train(cfg: dict, steps: int, kind=None, wrap=None, **settings):
    """Weights after some steps; without settings, by the oracle."""
    model = build(cfg)
    sharded = kind is LocalFSDP
    outer = LocalFSDP(model, **settings) if sharded else model
    wrap = optim_wrapper(outer, **(wrap or {}))
    if not sharded:
        wrap._wait_for_gradients = lambda: average(model.parameters())
    for step in range(steps):
        torch.manual_seed(step)
        batch = batch_for(cfg, 10 * step + dist.get_rank())
        outer.train_step(batch, wrap)
    return model, wrap


@check()
def sharded_segmentors(rank: int, folder: Path) -> None:
    """BatchNorm, checkpointing, frozen stages, heads on outputs of finished
    modules.

    Layers between these and an output get their gradient inside of another
    backward, when that of their unit is over.
    """
    checkpointed = segmentor()
    checkpointed['backbone']['checkpointing'] = 'block'
    for cfg, settings in (
        (checkpointed, {}),
        (segmentor(frozen_stages=1), {}),
        (own_layers(), {'reshard_after_forward': True}),
    ):
        expected, _ = train(cfg, 2)
        found, _ = train(cfg, 2, LocalFSDP, **settings)
        assert not left_whole(found)
        for one, many in zip(
            expected.parameters(), whole(found.parameters()), strict=True
        ):
            assert torch.allclose(one, many, rtol=1e-5, atol=1e-6)
        for one, many in zip(expected.buffers(), found.buffers(), strict=True):
            assert torch.allclose(one, many, rtol=1e-4, atol=1e-6)


@check()
def sharded_heads(rank: int, folder: Path) -> None:
    """That learn inside of the next module's backward, hand signals on, or
    sit behind each block."""
    resnet = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    predicted = classifier(resnet, 64, ['layer2.0', 'layer3.0'])
    predicted['backbone']['local_heads'] |= {
        'type': 'mmlocal.DNIHead',
        'context': True,
        'hidden_channels': 8,
    }
    layerwise = classifier(resnet, 64, {'type': 'mmlocal.EachBlock'})
    layerwise['backbone']['local_heads'] |= {
        'type': 'mmlocal.LayerwiseHead',
        'loss': 'predsim',
        'max_features': 64,
    }
    signals = classifier(
        {'type': 'mmlocal.SigPropConvNet', 'image_size': 12},
        128,
        ['layers.1', 'layers.3'],
    )
    signals['backbone']['input_shape'] = (3, 12, 12)
    signals['backbone']['local_heads'] |= {
        'type': 'mmlocal.SigPropHead',
        'image_size': 12,
    }
    for cfg in (predicted, layerwise, signals):
        cfg['backbone']['local_end'] = True
        expected, _ = train(cfg, 2)
        found, _ = train(cfg, 2, LocalFSDP)
        assert not left_whole(found)
        for one, many in zip(
            expected.parameters(), whole(found.parameters()), strict=True
        ):
            assert torch.allclose(one, many, rtol=1e-4, atol=1e-6)


@check()
def sharded_mixed_precision(rank: int, folder: Path) -> None:
    """Weights gathered in half precision, under autocast."""
    amp = {'kind': LocalAmpOptimWrapper, 'dtype': 'bfloat16'}
    for name, cfg in nets().items():
        if name == 'vgg':
            continue
        start = [p.detach().clone() for p in build(cfg).parameters()]
        expected, _ = train(cfg, 2, wrap=amp)
        for settings in ({}, {'param_dtype': 'bf16', 'reduce_dtype': 'bf16'}):
            found, _ = train(cfg, 2, LocalFSDP, amp, **settings)
            moved, error = (
                sum((a - b).square().sum() for a, b in zip(x, y, strict=True))
                for x, y in (
                    (expected.parameters(), start),
                    (expected.parameters(), whole(found.parameters())),
                )
            )
            assert error < (0.05 if settings else 1e-4) * moved
            kinds = {p.dtype for p in found.parameters()}
            assert kinds == {torch.float32}


@check()
def sharded_overflow_on_one_rank(rank: int, folder: Path) -> None:
    """All ranks skip the step, and scale alike afterwards."""
    model = build(nets()['resnet'])
    outer = LocalFSDP(model)
    wrap = optim_wrapper(outer, LocalAmpOptimWrapper, dtype='float16')
    batch = classification_batch(2, seed=rank)
    outer.train_step(deepcopy(batch), wrap)
    scale = wrap.loss_scaler.get_scale()
    before = [p.to_local().detach().clone() for p in model.parameters()]
    layer1 = model.backbone.backbone.layer1
    handle = layer1[0].register_full_backward_hook(
        lambda module, given, taken: (
            (given[0] * float('inf'),) if rank == 1 else None
        )
    )
    outer.train_step(deepcopy(batch), wrap)
    assert wrap.loss_scaler.get_scale() == scale / 2
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new.to_local())
    handle.remove()
    outer.train_step(deepcopy(batch), wrap)
    changed = [
        not torch.equal(old, new.to_local())
        for old, new in zip(before, model.parameters(), strict=True)
    ]
    assert any(changed)
