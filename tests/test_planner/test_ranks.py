from __future__ import annotations

import pytest
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmlocal.engine.distributed.gathering import LooseWeights
from mmlocal.models.cut_points import Split
from mmlocal.planner import Simulator, TrainingSetting, sharded_memory
from mmlocal.registry import MODELS
from mmlocal.units import find_units, loose_weights

SPLIT = Split(['layers.1', 'layers.3'], [None] * 3)


@pytest.fixture(scope='module')
def simulators():
    return {}


@pytest.fixture
def cfg(config):
    cfg = config('vit')
    cfg['model']['backbone']['backbone']['arch']['num_layers'] = 4
    return cfg


@pytest.fixture
def simulator(cfg, simulators):
    if not simulators:
        cfg['optim_wrapper']['optimizer'] = {'type': 'AdamW', 'lr': 0.001}
        setting = TrainingSetting(cfg, batch_size=4, device='cpu')
        simulators['vit'] = Simulator(setting)
    return simulators['vit']


@pytest.fixture
def ranks():
    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=3)
    yield init_device_mesh('cpu', (3,))
    dist.destroy_process_group()


def test_weights_of_a_rank_are_those_that_are_counted(cfg, simulator, ranks):
    memory = sharded_memory(simulator, SPLIT, 3)
    cfg['model']['backbone']['boundaries'] = list(SPLIT.boundaries)
    model = MODELS.build(cfg['model'])
    units = find_units(model)
    loose = list(loose_weights(model, units))
    for unit in units.values():
        fully_shard(unit, mesh=ranks)
    for _, holder, names in loose:
        LooseWeights(holder, names, ranks)
    counted = sum(p.to_local().nbytes for p in model.parameters())
    assert memory.weights == counted


def test_one_rank_takes_what_one_process_takes(simulator):
    memory = sharded_memory(simulator, SPLIT, 1)
    assert memory.peak == simulator.measure(SPLIT).peak
    assert memory.gathered == 0


def test_what_is_sharded_goes_with_the_ranks(simulator):
    """Between many and few ranks: the shards of weights, gradients, Adam's
    two states, and nothing else."""
    few, many = (sharded_memory(simulator, SPLIT, n) for n in (2, 1000))
    assert few.gathered == many.gathered
    saved = few.peak - many.peak
    shards = few.weights - many.weights
    assert 3 * shards <= saved <= 4.5 * shards


def test_one_module_is_whole_or_one_unit(simulator):
    module = sharded_memory(simulator, SPLIT, 2)
    half = sharded_memory(simulator, SPLIT, 2, {'param_dtype': 'bf16'})
    unit = sharded_memory(simulator, SPLIT, 2, {'reshard_after_forward': True})
    assert half.gathered == module.gathered // 2
    layer = simulator.backbone.backbone.layers[0]
    size = sum(p.nbytes for p in layer.parameters())
    assert unit.gathered == 3 * size
    # The second module has two layers, and a local head.
    assert 3 * size < module.gathered < 3.2 * size


def test_no_ranks_are_refused(simulator):
    with pytest.raises(ValueError, match='ranks=0'):
        sharded_memory(simulator, SPLIT, 0)
