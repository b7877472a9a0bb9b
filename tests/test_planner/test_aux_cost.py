"""Costs of local heads, against DGL's tables and plain counting."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmlocal.planner.aux_cost import aux_cost, total

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'


def load(name: str, **options) -> Config:
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.parametrize(
    ('name', 'first', 'third', 'fifth', 'whole', 'millions'),
    [
        ('convnet6_cifar10_k6_cnn', 8533, 200, 200, 330.8, 4.74),
        ('convnet6_cifar10_k6_mlp', 22, 2.1, 8.4, 7.08, 12.62),
        ('convnet6_cifar10_k6', 111, 4.2, 10.4, 10.52, 13.41),
    ],
)
def test_auxiliary_study(name, first, third, fifth, whole, millions):
    """Section 3 of DGL's specification, in percent of the module."""
    costs = aux_cost(load(f'dgl/{name}'))
    assert len(costs) == 6 and costs[5].head_macs is None
    shares = [100 * cost.head_macs / cost.macs for cost in costs[:5]]
    assert shares[0] == pytest.approx(first, abs=0.5)
    assert shares[2] == pytest.approx(third, abs=0.05)
    assert shares[4] == pytest.approx(fifth, abs=0.06)
    sums = total(costs)
    share = 100 * sums.head_macs / sums.macs
    assert share == pytest.approx(whole, abs=0.05)
    assert round(costs[4].head_params / 1e6, 2) == millions
    assert costs[2].macs == 16 * 16 * 256 * 256 * 9
    assert costs[2].params == 256 * 256 * 9 + 3 * 256


@pytest.mark.slow
def test_imagenet():
    """ResNet-152: a head three times as large as its module."""
    costs = aux_cost(load('dgl/resnet152_imagenet_50e_k2'))
    millions = [round(cost.params / 1e6, 1) for cost in costs]
    assert millions == [18.6, 39.5]
    assert round(costs[0].head_params / 1e6, 2) == 57.62


INFOPRO = {'type': 'mmlocal.InfoProHead', 'num_classes': 10}
HEADS = {
    'reconstruction': {**INFOPRO, 'task_weight': 0},
    'contrast': {**INFOPRO, 'task': 'contrast'},
    'of mmpretrain': {
        'type': 'mmlocal.TaskHead',
        'head': {'type': 'mmpretrain.LinearClsHead', 'num_classes': 10},
        'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
    },
}


@pytest.mark.parametrize('kind', HEADS)
def test_any_head(kind):
    """By hand: layers of C channels at `side`, then of width 2C at half."""
    cfg = load('dgl/convnet4_cifar10_k4')
    cfg.train_dataloader.batch_size = 6
    cfg.model.backbone.local_heads = HEADS[kind]
    costs = aux_cost(cfg)
    features = [(64, 32), (128, 16), (128, 16)]
    for cost, (channels, side) in zip(costs, features, strict=False):
        # The decoder has 12 channels at the size of the image.
        decoder = 9 * 32**2 * (12 * channels + 12 * 3)
        decoder_params = 9 * (12 * channels + 12 * 3) + 12 + 24 + 3
        if kind == 'reconstruction':
            expected = decoder, decoder_params
        elif kind == 'contrast':
            conv = 9 * channels * 2 * channels
            linears = 2 * channels * 128 + 128 * 128
            similarities = 6 * 128
            expected = (
                decoder + conv * (side // 2) ** 2 + linears + similarities,
                decoder_params + conv + 4 * channels + linears + 256,
            )
        else:
            expected = 10 * channels, 10 * channels + 10
        assert (cost.head_macs, cost.head_params) == expected
        assert cost.macs == costs_of_modules()[costs.index(cost)]


def costs_of_modules():
    """Multiply-accumulates of the four blocks."""
    blocks = [(3, 64, 32), (64, 128, 16), (128, 128, 16), (128, 256, 8)]
    return [9 * c * out * side**2 for c, out, side in blocks]


@pytest.mark.slow
def test_frozen_layers_are_counted():
    cfg = load('infopro/resnet101_imagenet')
    cfg.model.backbone.backbone.depth = 18
    cfg.model.backbone.boundaries = ['layer2.1']
    whole = aux_cost(cfg)
    cfg.model.backbone.backbone.frozen_stages = 2
    assert aux_cost(cfg) == whole


def test_every_parameter_counts_once():
    """An output of the backbone stems from a module that has ended."""
    cfg = load('greedy/deeplabv3_r18_shapes')
    cfg.model.backbone.boundaries = ['layer2.0', 'layer4.0']
    costs = aux_cost(cfg)
    init_default_scope('mmseg')
    plain = MODELS.build(cfg.model.backbone.backbone)
    params = sum(cost.params for cost in costs)
    assert params == sum(p.numel() for p in plain.parameters())
    assert all(cost.head_macs > 0 for cost in costs[:-1])


@pytest.fixture
def tool():
    path = ROOT / 'tools/analysis_tools/aux_cost.py'
    spec = importlib.util.spec_from_file_location('tools_aux_cost', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool(tool, tmp_path, capsys):
    config = str(CONFIGS / 'dgl/resnet20_shapes.py')
    out = tmp_path / 'cost.json'
    tool.main([config, '--out', str(out)])
    printed = capsys.readouterr().out
    content = json.loads(out.read_text())
    first, last = content['modules']
    assert last['head_macs'] is None and last['macs_ratio'] is None
    assert first['macs_ratio'] == first['head_macs'] / first['macs']
    assert content['sum']['head_params'] == first['head_params']
    assert f' {100 * first["macs_ratio"]:.1f} ' in printed
    assert 'the image' in printed and last['begin'] in printed


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        ('e2e/resnet20_shapes', [], 'has no local heads'),
        (
            'dgl/resnet20_shapes',
            ['model.backbone.boundaries=[]'],
            'boundaries is empty',
        ),
        ('dgl/resnet20_shapes', ['modle.a=1'], 'did you mean model'),
    ],
)
def test_mistakes_end_in_a_line_that_helps(
    config, options, message, tool, capsys
):
    argv = [str(CONFIGS / f'{config}.py')]
    if options:
        argv += ['--cfg-options', *options]
    with pytest.raises(SystemExit) as info:
        tool.main(argv)
    assert info.value.code == 2
    assert message in capsys.readouterr().err
