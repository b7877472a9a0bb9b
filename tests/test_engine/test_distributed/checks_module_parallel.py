"""Ranks that train a module each, against one process."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from checks_gradients import (
    batch_for,
    classifier,
    optim_wrapper,
    segmentor,
)
from conftest import build, classification_batch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from worker import PREBUILT, check

from mmlocal.engine.distributed import ModuleParallel
from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.registry import MODELS

STEPS = 3
RESNET = {'type': 'mmlocal.CIFARResNet', 'depth': 8}


@MODELS.register_module()
class PoolTokens(BaseModule):
    def forward(self, outputs):
        return (outputs[-1].mean(1),)


def resnet(*boundaries: str) -> dict:
    return classifier(RESNET, 64, list(boundaries) or ['layer3.0'])


def vgg() -> dict:
    inner = {
        'type': 'mmpretrain.VGG',
        'depth': 11,
        'num_stages': 3,
        'dilations': (1, 1, 1),
        'out_indices': (2,),
        'norm_cfg': {'type': 'BN'},
    }
    return classifier(inner, 256, ['features.4'])


def vit(*boundaries: str) -> dict:
    arch = {
        'embed_dims': 16,
        'num_layers': 4,
        'num_heads': 2,
        'feedforward_channels': 32,
    }
    inner = {
        'type': 'mmpretrain.VisionTransformer',
        'arch': arch,
        'img_size': 32,
        'patch_size': 8,
        'out_type': 'raw',
        'with_cls_token': False,
    }
    cfg = classifier(inner, 16, list(boundaries) or ['layers.2'])
    return {**cfg, 'neck': {'type': 'mmlocal.PoolTokens'}}


PREBUILT += [
    resnet(),
    resnet('layer2.0', 'layer3.0'),
    vgg(),
    vit(),
    vit('layers.1', 'layers.2', 'layers.3'),
]


def one_process(cfg, steps=STEPS, kind=LocalOptimWrapper, counts=1, **kwargs):
    """The oracle: the batches of all ranks, accumulated."""
    ranks = dist.get_world_size()
    model = build(cfg)
    wrap = optim_wrapper(
        model, kind, accumulative_counts=ranks * counts, **kwargs
    )
    logs = []
    for step in range(steps):
        parts = []
        for rank in range(ranks):
            log = model.train_step(batch_for(cfg, step * ranks + rank), wrap)
            parts.append({**log, **wrap.step_log})
        logs.append(
            {
                key: torch.stack([part[key].detach() for part in parts]).mean()
                for key in parts[0]
            }
        )
    return model, wrap, logs


def distributed(
    cfg, steps=STEPS, kind=LocalOptimWrapper, counts=1, wrapper=None, **kwargs
):
    ranks, rank = dist.get_world_size(), dist.get_rank()
    model = ModuleParallel(build(cfg), **(wrapper or {}))
    wrap = optim_wrapper(
        model.module, kind, accumulative_counts=counts, **kwargs
    )
    logs = []
    for step in range(steps):
        log = model.train_step(batch_for(cfg, step * ranks + rank), wrap)
        logs.append({**log, **wrap.step_log})
    return model, wrap, logs


def same_state(found: dict, expected: dict, names=None) -> None:
    for key, value in expected.items():
        if names is None or names(key):
            assert torch.allclose(found[key], value, rtol=1e-4, atol=2e-6), key


def compare(cfg: dict, names=None, wrapper=None, **kwargs) -> None:
    """Weights, states of the optimizer and losses after some steps."""
    model, wrap, logs = distributed(cfg, wrapper=wrapper, **deepcopy(kwargs))
    whole = model.whole_state(wrap)
    if dist.get_rank():
        assert whole is None
        return
    oracle, its_wrap, losses = one_process(cfg, **kwargs)
    expected = oracle.state_dict()
    assert list(whole['state_dict']) == list(expected)
    same_state(whole['state_dict'], expected, names)
    states = its_wrap.optimizer.state_dict()['state']
    assert list(whole['state']) == list(states)
    for key, state in states.items():
        same_state(whole['state'][key], state)
    for (before, now), log in zip(pairwise(losses), logs[1:], strict=True):
        assert set(log) == set(now)
        for key, value in log.items():
            # The first stage hears of the others a step later.
            stage_0 = key.startswith(('local_0', 'local_1')[: _first(model)])
            reference = (now if stage_0 else before)[key]
            # The loss of one pipeline alone, where there are several.
            if model.stages.replicas == 1:
                assert torch.allclose(value, reference, rtol=1e-3), key
    assert losses[-1]['loss'] != losses[0]['loss']


def trained(key: str) -> bool:
    """What replicas have alike: each normalizes its own batches."""
    return not key.endswith(('running_mean', 'running_var', 'tracked'))


def _first(model: ModuleParallel) -> int:
    return model.stages.sizes[0]


@check(2)
def module_parallel(rank: int, folder: Path) -> None:
    for cfg in (resnet(), vit()):
        compare(cfg)


@check(2)
def module_parallel_vgg(rank: int, folder: Path) -> None:
    compare(vgg())


@check(2)
def module_parallel_in_stages(rank: int, folder: Path) -> None:
    """Three modules on two ranks."""
    cfg = resnet('layer2.0', 'layer3.0')
    compare(cfg, wrapper={'stages': [2, 1]}, steps=2)
    cfg['backbone']['local_end'] = True
    compare(cfg, wrapper={'stages': [1, 2]}, steps=2)


@check(2)
def module_parallel_amp(rank: int, folder: Path) -> None:
    """With accumulation and one norm over all stages."""
    compare(
        resnet(),
        steps=4,
        kind=LocalAmpOptimWrapper,
        counts=2,
        clip_grad={'max_norm': 0.5},
    )


@check(4)
def module_parallel_mesh(rank: int, folder: Path) -> None:
    """Two stages of two replicas, and four stages."""
    compare(resnet(), names=trained)
    compare(vit('layers.1', 'layers.2', 'layers.3'), clip_grad={'max_norm': 1})


@check(2)
def module_parallel_delayed(rank: int, folder: Path) -> None:
    """The second stage does what it does without delay, a step later."""
    model, wrap, _ = distributed(resnet(), wrapper={'delay': 1})
    whole = model.whole_state(wrap)
    if rank == 0:
        now, _, _ = one_process(resnet())
        before, _, _ = one_process(resnet(), steps=STEPS - 1)
        second = ('backbone.layer3', 'head')
        same_state(
            whole['state_dict'],
            now.state_dict(),
            lambda key: not key.startswith(second),
        )
        same_state(
            whole['state_dict'],
            before.state_dict(),
            lambda key: key.startswith(second),
        )

    # A first step that brings the second stage no gradient.
    _, wrap, _ = distributed(
        resnet(),
        steps=2,
        kind=LocalAmpOptimWrapper,
        wrapper={'delay': 1},
        clip_grad={'max_norm': 1.0},
    )
    assert wrap.loss_scaler.get_scale() == 2**16
    assert wrap.optimizer.state


@check(2)
def module_parallel_overflow(rank: int, folder: Path) -> None:
    """In one stage: all skip the step, and scale alike afterwards."""
    model, wrap, _ = distributed(
        resnet(), 1, LocalAmpOptimWrapper, dtype='bfloat16'
    )
    scale = wrap.loss_scaler.get_scale()
    own = [p for p in model.module.parameters() if not p.is_meta]
    before = deepcopy(own)
    if rank == 1:
        handle = own[0].register_hook(lambda grad: grad * float('inf'))
    model.train_step(batch_for(resnet(), rank), wrap)
    assert wrap.loss_scaler.get_scale() == scale / 2
    assert all(map(torch.equal, before, own))
    if rank == 1:
        handle.remove()
    model.train_step(batch_for(resnet(), rank), wrap)
    assert not any(map(torch.equal, before, own))


@check(2)
def module_parallel_memory(rank: int, folder: Path) -> None:
    """A rank has the weights, gradients and states of its stage alone."""
    cfg = resnet()
    whole = build(cfg)
    inner = whole.backbone
    sizes = []
    for index, more in ((0, []), (1, [*whole.head.parameters()])):
        weights = [*inner.module_weights(index), *more]
        sizes.append(sum(p.nbytes for p in weights))
    assert sum(sizes) == sum(p.nbytes for p in whole.parameters())
    model = ModuleParallel(build(cfg))
    wrap = optim_wrapper(model.module)
    wrap.zero_grad = lambda: None
    model.train_step(batch_for(cfg, rank), wrap)
    there = [p for p in model.module.parameters() if not p.is_meta]
    assert sum(p.nbytes for p in there) == sizes[rank]
    assert sum(p.grad.nbytes for p in there) == sizes[rank]
    states = wrap.optimizer.state.values()
    assert sum(s['momentum_buffer'].nbytes for s in states) == sizes[rank]
    assert all(
        p.grad is None for p in wrap.param_groups[0]['params'] if p.is_meta
    )
    dist.barrier()


@check(2)
def module_parallel_traffic(rank: int, folder: Path) -> None:
    """Features, images and labels go forward; batches to the first stage."""
    cfg = resnet()
    model, wrap, _ = distributed(cfg, 2)
    before = model.bytes_sent
    batch = batch_for(cfg, rank)
    model.train_step(batch, wrap)
    sent = model.bytes_sent - before
    image = batch['inputs'].numel()
    if rank == 0:
        feature = 4 * 2 * 32 * 16 * 16
        # Of both shares; images are float32 now.
        payload = 2 * (feature + 4 * image)
    else:
        payload = image
    assert payload < sent < payload + 8000
    # What is on its way is bounded.
    assert len(model._pipeline._to_next._pending) <= 2 if rank == 0 else True
    # What is on its way is lost if its sender ends.
    dist.barrier()


def refused(cfg: dict, text: str, **options) -> None:
    with pytest.raises(ValueError, match=text):
        ModuleParallel(build(cfg), **options)


@check(2)
def module_parallel_refuses(rank: int, folder: Path) -> None:
    refused(resnet(), '3 stages are more than the 2 modules', stages=3)
    refused(vit('layers.1'), 'modules of each stage, in order', stages=[2, 1])
    refused(resnet(), 'write 0 or 1', delay=2)
    refused(resnet(), 'from 1 on', queue=0)
    refused(resnet('layer2.0', 'layer3.0'), 'LocalRunner', stages=2)
    dni = resnet()
    dni['backbone']['local_heads'] = {'type': 'mmlocal.DNIHead'}
    refused(dni, 'DNIHead needs the gradient')
    no_chain = vit()
    no_chain['backbone']['backbone']['out_type'] = 'featmap'
    refused(no_chain, 'no chain of submodules')
    none = resnet()
    none['backbone']['local_heads'] = []
    refused(none, 'local_heads=')
    shared = build(vit())
    layers = shared.backbone.backbone.layers
    layers[3].ln1.weight = layers[0].ln1.weight
    with pytest.raises(ValueError, match='are one weight'):
        ModuleParallel(shared)
    model = ModuleParallel(build(resnet()))
    optimizer = torch.optim.SGD(model.module.parameters(), 0.1)
    with pytest.raises(ValueError, match='LocalOptimWrapper'):
        model.train_step({}, OptimWrapper(optimizer))
    with pytest.raises(RuntimeError, match='on all ranks at once'):
        model(torch.zeros(1))


@check(2)
def module_parallel_predictions(rank: int, folder: Path) -> None:
    """As one process predicts them, each rank those of its own batch.

    In batches that are larger and smaller than the last one.
    """
    for cfg in (resnet(), vit()):
        model, oracle = ModuleParallel(build(cfg)).eval(), build(cfg).eval()
        for seed, size in enumerate((2, 5, 1)):
            batch = classification_batch(size, seed=10 * seed + rank)
            with torch.no_grad():
                found = model.val_step(batch)
                expected = oracle.val_step(batch)
            assert len(found) == size
            for one, other in zip(found, expected, strict=True):
                assert torch.allclose(one.pred_score, other.pred_score)
                assert torch.equal(one.gt_label, other.gt_label)
        dist.barrier()


@check(2)
def module_parallel_segmentor(rank: int, folder: Path) -> None:
    """Trained and tested, with an auxiliary head and label maps."""
    cfg = segmentor(out_indices=(2, 3))
    cfg['decode_head']['in_index'] = 1
    cfg['auxiliary_head']['in_index'] = 0
    # Rebuilds the image; nothing is drawn at random.
    cfg['backbone']['local_heads'].update(
        preset='cifar',
        task={
            'type': 'mmlocal.TaskHead',
            'head': {
                'type': 'FCNHead',
                'channels': 4,
                'num_convs': 1,
                'num_classes': 4,
                'dropout_ratio': 0,
            },
        },
    )
    options = {'wrapper': {'stages': [2, 1]}, 'steps': 2}
    compare(cfg, **options)
    model, _, _ = distributed(cfg, **options)
    oracle, _, _ = one_process(cfg, steps=2)
    model.eval(), oracle.eval()
    batch = batch_for(cfg, 10 + rank)
    with torch.no_grad():
        (one, _), (other, _) = model.val_step(batch), oracle.val_step(batch)
    assert torch.allclose(
        one.seg_logits.data, other.seg_logits.data, atol=1e-4
    )
    assert one.gt_sem_seg.data.shape == (1, 32, 32)
    model.module.test_cfg = Config(
        {'mode': 'slide', 'crop_size': (16, 16), 'stride': (16, 16)}
    )
    if rank == 1:
        with pytest.raises(RuntimeError, match='more than once a batch'):
            model.val_step(batch)
    else:
        with pytest.raises(RuntimeError, match='It has ended'):
            model.val_step(batch)
