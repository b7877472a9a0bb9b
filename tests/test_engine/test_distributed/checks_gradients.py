"""What the reducer does to gradients, against the average of the ranks'."""

from __future__ import annotations

from ast import literal_eval
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest import mock

import torch
import torch.distributed as dist
from conftest import (
    audio_batch,
    build,
    classification_batch,
    classifier_cfg,
    segmentation_batch,
    segmentor_cfg,
)
from mmengine.model import MMDistributedDataParallel
from mmseg.models.backbones import ResNetV1c
from torch import nn
from worker import PREBUILT, check

from mmlocal.engine.distributed import LocalDistributedDataParallel
from mmlocal.engine.optim import LocalAmpOptimWrapper, LocalOptimWrapper
from mmlocal.models.backbones import LocalSupervisedBackbone  # noqa: F401
from mmlocal.registry import MODELS

CONVNEXT = {
    'type': 'mmpretrain.ConvNeXt',
    'arch': {'depths': [1, 1, 2, 1], 'channels': [8, 16, 24, 32]},
    'drop_path_rate': 0.1,
    'gap_before_final_norm': False,
}


# Of `models`: the others differ in where a module's gradients come from.
CORE = ('resnet', 'segmentor')


@MODELS.register_module()
class ShallowResNet(ResNetV1c):
    arch_settings = {18: (ResNetV1c.arch_settings[18][0], (1, 1, 2, 1))}


@MODELS.register_module()
class PoolLastMap(nn.Module):
    def forward(self, outputs):
        return (outputs[-1].mean((2, 3)),)


def segmentor(**backbone) -> dict:
    """Local heads at layer2 and in layer3, an auxiliary head on layer3.

    BatchNorm keeps its statistics per rank, as in the reference.
    """
    backbone = {'type': 'mmlocal.ShallowResNet', **backbone}
    cfg = segmentor_cfg(['layer2.0', 'layer3.1'], **backbone)
    cfg['auxiliary_head'] = {**cfg['decode_head'], 'in_index': 2}
    cfg['auxiliary_head'] |= {'in_channels': 32}
    cfg['decode_head']['in_index'] = 3
    cfg['test_cfg'] = {'mode': 'whole'}
    return cfg


def own_layers() -> dict:
    """Heads read ConvNeXt's norm layers at outputs of finished modules."""
    cfg = segmentor()
    cfg['backbone'].update(
        backbone={**CONVNEXT, 'out_indices': (0, 2, 3)},
        boundaries=['downsample_layers.1', 'downsample_layers.3'],
    )
    cfg['decode_head'].update(
        in_channels=[8, 24, 32],
        in_index=[0, 1, 2],
        input_transform='resize_concat',
    )
    cfg['auxiliary_head'].update(in_channels=24, in_index=1)
    return cfg


def skips() -> dict:
    """A decoder takes what finished modules have put out."""
    cfg = segmentor()
    cfg['backbone'].update(
        backbone={
            'type': 'UNet',
            'base_channels': 4,
            'num_stages': 3,
            'strides': (1, 1, 1),
            'downsamples': (True, True),
            'enc_num_convs': (1, 1, 1),
            'dec_num_convs': (1, 1),
            'enc_dilations': (1, 1, 1),
            'dec_dilations': (1, 1),
        },
        boundaries=['encoder.1', 'decoder.1'],
    )
    cfg['decode_head'].update(in_channels=4, in_index=2)
    cfg['auxiliary_head'].update(in_channels=8, in_index=1)
    return cfg


def classifier(backbone: dict, channels: int, boundaries: list) -> dict:
    backbone = {
        'type': 'mmlocal.LocalSupervisedBackbone',
        'backbone': backbone,
        'boundaries': boundaries,
        'local_heads': {'type': 'mmlocal.GreedyHead', 'num_classes': 10},
        'input_shape': (3, 32, 32),
    }
    cfg = classifier_cfg(backbone, channels)
    return {**cfg, 'neck': {'type': 'mmlocal.PoolLastMap'}}


def models() -> dict[str, dict]:
    vit = {
        'type': 'mmpretrain.VisionTransformer',
        'arch': {
            'embed_dims': 16,
            'num_layers': 4,
            'num_heads': 2,
            'feedforward_channels': 32,
        },
        'img_size': 32,
        'patch_size': 8,
        'out_type': 'featmap',
        'drop_rate': 0.1,
    }
    resnet = {'type': 'mmlocal.CIFARResNet', 'depth': 8}
    cuts = ['downsample_layers.1', 'stages.2.1']
    return {
        'resnet': classifier(resnet, 64, ['layer2.0', 'layer3.0']),
        'convnext': classifier(CONVNEXT, 32, cuts),
        'vit': classifier(vit, 16, ['layers.1', 'layers.3']),
        'segmentor': segmentor(),
        'own_layers': own_layers(),
        'skips': skips(),
    }


PREBUILT += models().values()


def batch_for(cfg: dict, seed: int) -> dict:
    if cfg['_scope_'] == 'mmseg':
        return segmentation_batch(seed=seed)
    if cfg['data_preprocessor'].get('type') == 'mmlocal.AudioDataPreprocessor':
        return audio_batch(2, seed=seed)
    side = cfg['backbone']['input_shape'][-1]
    return classification_batch(2, side, seed=seed)


def optim_wrapper(model, kind=LocalOptimWrapper, weight_decay=0, **kwargs):
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay
    )
    return kind(optimizer=optimizer, **kwargs)


def average(parameters) -> None:
    """The oracle: one sum of all gradients at the end, 0 for missing ones."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in trained])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    sizes = [p.numel() for p in trained]
    for parameter, part in zip(trained, flat.split(sizes), strict=True):
        parameter.grad = part.view(parameter.shape)


def train(
    cfg, wrapped, steps, counts, prepare=None, setup=None, **zero
) -> list[dict]:
    """Gradients of each step; without wrapper, averaged by the oracle.

    Each step starts from fresh weights, the same ones in all runs: rounding
    of another order of summation would grow from step to step.
    """
    model = build(cfg)
    outer = wrapped(model) if wrapped else model
    wrap = optim_wrapper(outer, accumulative_counts=counts)
    if setup is not None:
        setup(model, outer, wrap)
    weights = deepcopy(list(model.parameters()))
    step, zero_grad, found = wrap.optimizer.step, wrap.zero_grad, []

    def keep():
        if not wrapped:
            average(model.parameters())
        found.append(
            {
                name: p.grad.clone()
                for name, p in model.named_parameters()
                if p.grad is not None
            }
        )
        step()
        torch.manual_seed(len(found))
        assert same_on_all_ranks(model.parameters())
        for weight, start in zip(model.parameters(), weights, strict=True):
            weight.data.copy_(start * (1 + 0.1 * torch.randn(())))

    wrap.optimizer.step = keep
    wrap.zero_grad = lambda: zero_grad(**zero)
    for index in range(steps * counts):
        if prepare is not None:
            prepare(model, index)
        torch.manual_seed(index)
        batch = batch_for(cfg, 10 * index + dist.get_rank())
        outer.train_step(deepcopy(batch), wrap)
    return found


@cache
def averaged(cfg: str, steps: int, counts: int) -> list[dict]:
    """Gradients that several checks compare theirs with."""
    return train(literal_eval(cfg), None, steps, counts)


@torch.no_grad()
def same_on_all_ranks(tensors) -> bool:
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    other = flat.clone()
    dist.broadcast(other, 0)
    same = torch.tensor(int(torch.equal(flat, other)))
    dist.all_reduce(same, dist.ReduceOp.MIN)
    return bool(same)


def compare(cfg, counts=1, wrapped=None, tolerance=1e-5, steps=3, **options):
    """Gradients on each step equal the average of the ranks' own."""
    wrapped = wrapped or LocalDistributedDataParallel
    prepare = options.pop('prepare', None)
    if prepare is None:
        expected = averaged(str(cfg), steps, counts)
    else:
        expected = train(cfg, None, steps, counts, prepare)
    found = train(cfg, wrapped, steps, counts, prepare, **options)
    assert len(found) == len(expected) == steps
    for values, references in zip(found, expected, strict=True):
        for name, reference in references.items():
            # DDP leaves out what no rank has used.
            value = values.get(name, torch.zeros_like(reference))
            error = (value - reference).abs().max()
            # A bias before BatchNorm has no gradient but rounding.
            limit = tolerance * reference.abs().max() + 1e-7
            assert error < limit, (name, error, limit)


def ddp(model):
    return MMDistributedDataParallel(
        model, broadcast_buffers=False, find_unused_parameters=True
    )


def small_buckets(model):
    """Several a module: each ends after 4 KiB."""
    return LocalDistributedDataParallel(model, bucket_cap_mb=1 / 256)


@check()
def gradients(rank: int, folder: Path) -> None:
    """The average of the ranks', over three steps."""
    for name in CORE:
        for counts in (1, 2):
            compare(models()[name], counts)


@check(4)
def gradients_of_more_ranks(rank: int, folder: Path) -> None:
    compare(segmentor(), 2, steps=2)


@check()
def gradients_of_other_models(rank: int, folder: Path) -> None:
    for name, cfg in models().items():
        if name not in CORE:
            for counts in (1, 2):
                compare(cfg, counts, steps=2)


@check()
def gradients_of_ddp(rank: int, folder: Path) -> None:
    """mmengine's own wrapper, the fallback."""
    compare(segmentor(), 2, ddp)
    compare(own_layers(), 1, ddp, steps=2)


@check()
def gradients_in_small_buckets(rank: int, folder: Path) -> None:
    for name in ('segmentor', 'vit'):
        compare(models()[name], 2, small_buckets)


@check()
def gradients_that_are_set_to_zero(rank: int, folder: Path) -> None:
    """The views of the last step are accumulated into."""
    compare(segmentor(), 2, small_buckets, set_to_none=False)


@check()
def gradients_with_checkpointing(rank: int, folder: Path) -> None:
    """Reentrant: the inner backward brings the gradients of a block."""
    compare(segmentor(with_cp=True), 1, small_buckets)


@check()
def gradients_in_half_precision(rank: int, folder: Path) -> None:
    for kind, tolerance in (('fp16', 1e-2), ('bf16', 5e-2)):
        expected = averaged(str(segmentor()), 3, 1)[0]
        found = train(
            segmentor(),
            lambda model, kind=kind: LocalDistributedDataParallel(
                model, compression=kind, own_group=True, timeout=60
            ),
            1,
            1,
        )[0]
        flat = [
            torch.cat([v.flatten() for v in values.values()])
            for values in (expected, found)
        ]
        error = (flat[1] - flat[0]).norm() / flat[0].norm()
        assert 1e-6 < error < tolerance, (kind, error)


def head_of_rank_1(model, index) -> None:
    """From step 1 on, rank 1 trains neither the first local head's decoder
    nor, in step 2, the first module at all."""
    head = model.backbone.local_heads[0]
    head.recon_weight = 0 if dist.get_rank() and index else 1
    if dist.get_rank() and index == 2:
        head.loss = lambda feat, *args: {'loss_none': feat.new_zeros(())}


@check()
def gradients_unused_on_one_rank(rank: int, folder: Path) -> None:
    """Also in the first step, on rank 0, from which the order comes."""
    compare(segmentor(), 1, small_buckets, prepare=head_of_rank_1)

    def first_step(model, index):
        head = model.backbone.local_heads[0]
        head.recon_weight = 0 if rank == 0 and index == 0 else 1

    compare(segmentor(), 1, small_buckets, prepare=first_step)


@check()
def gradients_after_freezing(rank: int, folder: Path) -> None:
    """Another set of trainable parameters is observed anew."""

    def freeze(model, index):
        model.backbone.backbone.stem.requires_grad_(index % 3 == 0)

    found = train(segmentor(), small_buckets, 4, 1, freeze)
    frozen = [{k for k in step if '.stem.' in k} for step in found]
    assert [bool(names) for names in frozen] == [True, False, False, True]
    expected = train(segmentor(), None, 4, 1, freeze)
    for step, oracle in zip(found, expected, strict=True):
        for name, value in step.items():
            assert torch.allclose(value, oracle[name], atol=1e-6), name


@check()
def traffic(rank: int, folder: Path) -> None:
    """All trainable bytes once; those of finished modules before the end."""
    for name, cfg in models().items():
        model = build(cfg)
        finished = {
            'segmentor': ('stem.', 'layer1.', 'layer2.', 'layer3.0.'),
            'resnet': ('conv1.', 'bn1.', 'layer1.', 'layer2.'),
        }.get(name)
        if finished is None:
            continue
        outer = small_buckets(model)
        wrap = optim_wrapper(outer)
        events, all_reduce = [], dist.all_reduce
        backward = wrap.backward

        def count(tensor, *args, events=events, send=all_reduce, **kwargs):
            events.append(tensor.nbytes)
            return send(tensor, *args, **kwargs)

        def last(loss, events=events, backward=backward):
            events.append('last backward')
            backward(loss)

        wrap.backward = last
        for step in range(3):
            events.clear()
            with mock.patch.object(dist, 'all_reduce', count):
                outer.train_step(batch_for(cfg, step), wrap)
            total = sum(p.nbytes for p in model.parameters())
            assert total == sum(e for e in events if isinstance(e, int))
            if step == 0:
                continue
            before = sum(events[: events.index('last backward')])
            inner = model.backbone.backbone
            local = sum(
                p.nbytes
                for key, p in inner.named_parameters()
                if key.startswith(finished)
            )
            heads = model.backbone.local_heads.parameters()
            assert before == local + sum(p.nbytes for p in heads)
            assert len(events) > 8


@check()
def no_traffic_while_accumulating(rank: int, folder: Path) -> None:
    outer = small_buckets(build(segmentor()))
    wrap = optim_wrapper(outer, accumulative_counts=3)
    sent = []
    for step in range(6):
        with mock.patch.object(
            dist, 'all_reduce', wraps=dist.all_reduce
        ) as spy:
            outer.train_step(segmentation_batch(seed=step), wrap)
        sent.append(bool(spy.call_count))
    assert sent == [False, False, True] * 2


@check()
def waiting_for_one_module(rank: int, folder: Path) -> None:
    """`wait(params)` in the local backward, in the first step and later."""
    waited = []

    def setup(model, outer, wrap):
        inner = model.backbone.backbone
        modules = [[inner.stem, inner.layer1], [inner.layer2]]
        local_backward = wrap.local_backward

        def backward_and_wait(loss):
            local_backward(loss)
            part = nn.ModuleList(modules[len(waited) % 2])
            outer.gradient_reducer.wait(part.parameters())
            waited.append([p.grad.clone() for p in part.parameters()])

        wrap.local_backward = backward_and_wait

    found = train(segmentor(), small_buckets, 3, 1, setup=setup)
    expected = averaged(str(segmentor()), 3, 1)
    for step, oracle in zip(found, expected, strict=True):
        for name, value in oracle.items():
            assert torch.allclose(step[name], value, atol=1e-6), name
        at_once = [waited.pop(0), waited.pop(0)]
        for names, values in zip(
            (('.stem.', '.layer1.'), ('.layer2.',)), at_once, strict=True
        ):
            late = [
                value
                for name, value in oracle.items()
                if any(part in name for part in names)
                and 'local_heads' not in name
            ]
            for early, value in zip(values, late, strict=True):
                assert torch.allclose(early, value, atol=1e-6)


@check()
def overflow_on_one_rank(rank: int, folder: Path) -> None:
    """All ranks skip the step, and scale alike afterwards."""
    model = build(segmentor())
    outer = small_buckets(model)
    wrap = optim_wrapper(outer, LocalAmpOptimWrapper, dtype='bfloat16')
    outer.train_step(segmentation_batch(seed=rank), wrap)
    scale = wrap.loss_scaler.get_scale()
    before = deepcopy(list(model.parameters()))
    first = next(model.backbone.backbone.layer1.parameters())
    if rank == 1:
        handle = first.register_hook(lambda grad: grad * float('inf'))
    outer.train_step(segmentation_batch(seed=rank), wrap)
    assert wrap.loss_scaler.get_scale() == scale / 2
    for old, new in zip(before, model.parameters(), strict=True):
        assert torch.equal(old, new)
    if rank == 1:
        handle.remove()
    outer.train_step(segmentation_batch(seed=rank), wrap)
    assert not torch.equal(before[0], next(model.parameters()))
    assert same_on_all_ranks(model.parameters())
