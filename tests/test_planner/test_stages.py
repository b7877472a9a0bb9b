from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmlocal.engine.distributed.stage_weights import StageWeights
from mmlocal.engine.distributed.stages import Stages
from mmlocal.models.cut_points import Split
from mmlocal.planner import Simulator, TrainingSetting, stages_memory
from mmlocal.registry import MODELS

BATCH = 4
SPLIT = Split(['layer2.0', 'layer3.0'], [None] * 3)


@pytest.fixture(scope='module')
def simulators():
    return {}


@pytest.fixture
def simulator(config, simulators):
    if not simulators:
        setting = TrainingSetting(
            config('resnet'), batch_size=BATCH, device='cpu'
        )
        simulators['resnet'] = Simulator(setting)
    return simulators['resnet']


@pytest.mark.parametrize('stage', [0, 1])
def test_weights_of_a_stage_are_those_that_it_keeps(config, simulator, stage):
    sizes = [2, 1]
    memory = stages_memory(simulator, SPLIT, 2, {'stages': sizes})
    cfg = config('resnet')
    cfg['model']['backbone']['boundaries'] = list(SPLIT.boundaries)
    model = MODELS.build(cfg['model'])
    dist.init_process_group(
        'fake', store=FakeStore(), rank=stage, world_size=2
    )
    try:
        stages = Stages(sizes, torch.device('cpu'))
        StageWeights(model, model.backbone, stages).settle()
    finally:
        dist.destroy_process_group()
    tensors = [*model.parameters(), *model.buffers()]
    kept = sum(tensor.nbytes for tensor in tensors if not tensor.is_meta)
    # The mean and deviation of images, which every stage has.
    spread = 2 * 3 * 4 * (stage == 0)
    assert memory[stage].weights + spread == kept
    assert memory[stage].modules == sizes[stage]


def test_what_is_under_way_is_counted(simulator):
    """Of 32x32 images a 64th and a 16th of the positions, with labels."""
    first, second, third = stages_memory(simulator, SPLIT, 3, {'queue': 3})
    image, label = 3 * 32 * 32 * 4, 8
    to_second, to_third = (
        BATCH * (channels * side**2 * 4 + image + label)
        for channels, side in ((16, 32), (32, 16))
    )
    assert first.under_way == 3 * to_second
    assert second.under_way == to_second + 3 * to_third
    assert third.under_way == to_third


def test_one_stage_takes_what_one_process_takes(simulator):
    (stage,) = stages_memory(simulator, SPLIT, 1, {'stages': 1})
    peak = simulator.measure(SPLIT).peak
    assert stage.under_way == 0
    # All gradients are held from the second share on.
    assert peak <= stage.peak <= peak + stage.weights


def test_stages_are_balanced_by_their_work(simulator):
    flops = [
        simulator.measure_module(SPLIT, index, cached=True).total_flops
        for index in range(3)
    ]
    stages = stages_memory(simulator, SPLIT, 2)
    sizes = [stage.modules for stage in stages]
    ways = [[1, 2], [2, 1]]
    assert sizes == min(
        ways, key=lambda way: max(sum(flops[: way[0]]), sum(flops[way[0] :]))
    )


def test_ranks_that_cannot_be_divided_are_refused(simulator):
    with pytest.raises(ValueError, match='4 ranks cannot be divided'):
        stages_memory(simulator, SPLIT, 4)
