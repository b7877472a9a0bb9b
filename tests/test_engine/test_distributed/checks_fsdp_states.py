"""What a rank holds and sends of a sharded model; states, errors."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from checks_fsdp import left_whole, nets, part_of, whole
from checks_gradients import optim_wrapper, same_on_all_ranks, segmentor
from conftest import build, classification_batch, segmentation_batch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from worker import check

from mmlocal.engine.distributed import LocalFSDP
from mmlocal.engine.distributed.shards import whole_states
from mmlocal.units import find_units


@check()
def sharded_states(rank: int, folder: Path) -> None:
    """Go on in one process, and from one process on ranks."""
    cfg = nets()['vit']

    def go_on(outer, wrap, first, sharded):
        for step in range(first, first + 2):
            batch = classification_batch(4, seed=step)
            outer.train_step(part_of(batch) if sharded else batch, wrap)

    def start(sharded):
        model = build(cfg)
        outer = LocalFSDP(model) if sharded else model
        wrap = optim_wrapper(outer)
        if sharded:
            outer.handle_optimizer(wrap.optimizer)
        return model, outer, wrap

    model, outer, wrap = start(True)
    go_on(outer, wrap, 0, True)
    with whole_states():
        states = deepcopy([model.state_dict(), wrap.state_dict()])
    if rank == 1:
        assert not any(value.numel() for value in states[0].values())
    dist.broadcast_object_list(states)
    assert set(states[0]) == set(build(cfg).state_dict())
    assert not any(isinstance(v, DTensor) for v in states[0].values())
    go_on(outer, wrap, 2, True)
    expected = whole(model.parameters())
    for sharded in (False, True):
        model, outer, wrap = start(sharded)
        with torch.no_grad():
            for weight in model.parameters():
                weight.zero_()
        # An optimizer goes on in the tensors that it is given.
        model.load_state_dict(states[0])
        wrap.load_state_dict(deepcopy(states[1]))
        go_on(outer, wrap, 2, sharded)
        for one, other in zip(
            expected, whole(model.parameters()), strict=True
        ):
            assert torch.allclose(one, other, rtol=1e-5, atol=1e-7)


@check()
def sharded_inference(rank: int, folder: Path) -> None:
    """The predictions of the whole model, and nothing whole behind them."""
    cfg = segmentor()
    batch = segmentation_batch(2, seed=rank)
    model = build(cfg).eval()
    outer = LocalFSDP(build(cfg)).eval()
    with torch.no_grad():
        expected = model.val_step(deepcopy(batch))
        for step in (outer.val_step, outer.test_step):
            found = step(deepcopy(batch))
            for one, other in zip(expected, found, strict=True):
                assert torch.equal(one.seg_logits.data, other.seg_logits.data)
            assert not left_whole(outer)


@check()
def sharded_bytes(rank: int, folder: Path) -> None:
    """A rank holds its part, sends what was promised, and has no more than
    one module whole at a time, or one unit."""
    cfg = nets()['resnet']
    plain = build(cfg)
    size = bytes_of(plain.parameters())
    units = find_units(plain)
    assert {'backbone.backbone.layer1.0', 'head.fc'} <= {*units}
    modules = [bytes_of(plain.backbone.module_weights(i)) for i in range(3)]
    modules[-1] += size - sum(modules)
    unit = max(bytes_of(unit.parameters()) for unit in units.values())
    for settings, gathers, most in (
        ({}, 1, max(modules)),
        ({'reshard_after_forward': True}, 2, unit),
    ):
        model = build(cfg)
        outer = LocalFSDP(model, **settings)
        wrap = optim_wrapper(outer)
        held = watch_whole(model, units)
        batch = classification_batch(4, seed=rank)
        outer.train_step(deepcopy(batch), wrap)
        unshard = FSDPModule.unshard
        ahead = mock.patch.object(
            FSDPModule, 'unshard', autospec=True, side_effect=unshard
        )
        with Sent() as sent, ahead as asked:
            outer.train_step(batch, wrap)
        # The first one of each module is not asked for.
        assert asked.call_count == len(units) - 3
        local = sum(p.to_local().nbytes for p in model.parameters())
        assert local == pytest.approx(size / 2, rel=0.05)
        state = wrap.optimizer.state.values()
        momentum = sum(s['momentum_buffer'].to_local().nbytes for s in state)
        assert momentum == local
        # Padded, where the ranks' parts are not alike.
        assert sent.gathered == pytest.approx(gathers * size, rel=0.05)
        assert sent.reduced == pytest.approx(size, rel=0.05)
        assert 0 < max(held) <= most < size


def bytes_of(weights) -> int:
    return sum(weight.nbytes for weight in weights)


def watch_whole(model, units) -> list[int]:
    """Bytes that are whole when a unit begins and ends its forward."""
    held = []

    def note(*args):
        weights = dict(model.named_parameters())
        held.append(bytes_of(weights[name] for name in left_whole(model)))

    for name in units:
        model.get_submodule(name).register_forward_pre_hook(note)
        model.get_submodule(name).register_forward_hook(note)
    return held


class Sent(TorchDispatchMode):
    """Bytes that all-gathers bring, and that reduce-scatters take in."""

    def __init__(self):
        super().__init__()
        self.gathered = self.reduced = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if '_allgather_base_' in func.__name__:
            self.gathered += args[0].nbytes
        elif '_reduce_scatter_base_' in func.__name__:
            self.reduced += args[1].nbytes
        return func(*args, **(kwargs or {}))


@check()
def errors_of_sharding(rank: int, folder: Path) -> None:
    def refused(message, prepare=lambda model: None, cfg=None, **settings):
        model = build(cfg or nets()['vit'])
        prepare(model)
        with pytest.raises(ValueError, match=message):
            LocalFSDP(model, **settings)

    refused("accumulate='all'", accumulate='all')
    refused("param_dtype='float'", param_dtype='float')
    refused("no 'nothing'", units=['nothing'])
    refused('holds a boundary', units=['backbone.backbone'])
    refused('BatchNorm', cfg=segmentor(), param_dtype='bf16')
    refused('holds another', units=['head', 'head.fc'])
    refused(
        'temperature is a scalar',
        lambda m: m.register_parameter(
            'temperature', nn.Parameter(torch.ones(()))
        ),
    )

    def share(model):
        first, second = model.backbone.local_heads
        second.net.fc.weight = first.net.fc.weight

    refused('local_heads.0.net.fc, .*1.net.fc share a weight', share)

    model = build(nets()['vit'])
    linear = model.head.fc
    model.head.forward = lambda feats: nn.functional.linear(
        feats[-1], linear.weight, linear.bias
    )
    outer = LocalFSDP(model)
    with pytest.raises(RuntimeError, match='units=') as error:
        outer.train_step(classification_batch(2), optim_wrapper(outer))
    assert 'outside of the forward' in str(error.value)
    with pytest.raises(RuntimeError, match='the last step has failed'):
        outer.train_step(classification_batch(2), optim_wrapper(outer))
    model.init_weights = None
    model = build(nets()['vit'])
    model.head.forward = type(model.head).forward.__get__(model.head)
    outer = LocalFSDP(model, units=['head'])
    outer.train_step(classification_batch(2), optim_wrapper(outer))
    assert same_on_all_ranks(whole(model.parameters()))
    with pytest.raises(RuntimeError, match='LocalRunner'):
        model.init_weights()
