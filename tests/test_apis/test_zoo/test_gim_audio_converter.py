"""Checkpoints of the audio code of Greedy InfoMax, of a moment."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmlocal.apis.zoo.converters import convert_gim_audio
from mmlocal.models.backbones import CPCAudioEncoder

ROOT = Path(__file__).parents[3]
LAYERS = ((10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1))
WIDTH, CONTEXT, STEPS = 6, 5, 3
# Which layers each module has, and which modules a recurrent net.
SPLITS = {
    6: ([[0], [1], [2], [3], [4], []], [5]),
    5: ([[0], [1], [2], [3], [4]], [4]),
    1: ([[0, 1, 2, 3, 4]], [0]),
    'every': ([[0], [1], [2], [3], [4]], [0, 1, 2, 3, 4]),
}


def published(split, cell: bool = False) -> dict[str, torch.Tensor]:
    """A whole net under the keys of its authors."""
    modules, recurrent = SPLITS[split]
    weights = {}
    for index, layers in enumerate(modules):
        prefix = f'module.fullmodel.{index}.'
        for number, layer in enumerate(layers):
            conv = nn.Conv1d(WIDTH if layer else 1, WIDTH, LAYERS[layer][0])
            name = f'{prefix}encoder.model.layer {number}.0.'
            weights |= {name + k: v for k, v in conv.state_dict().items()}
        width = WIDTH
        if index in recurrent:
            gru = (nn.GRUCell if cell else nn.GRU)(WIDTH, CONTEXT)
            name, width = f'{prefix}autoregressor.gru.', CONTEXT
            weights |= {name + k: v for k, v in gru.state_dict().items()}
        name = f'{prefix}loss.predictor.weight'
        weights[name] = torch.randn(WIDTH * STEPS, width)
    return weights


def run(weights: dict, split, cell: bool, waves: torch.Tensor):
    """By the authors' keys alone."""
    modules, recurrent = SPLITS[split]
    feat = waves
    for index, layers in enumerate(modules):
        prefix = f'module.fullmodel.{index}.'
        for number, layer in enumerate(layers):
            name = f'{prefix}encoder.model.layer {number}.0.'
            weight, bias = weights[name + 'weight'], weights[name + 'bias']
            _, stride, padding = LAYERS[layer]
            feat = F.conv1d(feat, weight, bias, stride, padding).relu()
    name = f'module.fullmodel.{recurrent[-1]}.autoregressor.gru.'
    gru = nn.GRUCell(WIDTH, CONTEXT)
    suffix = '' if cell else '_l0'
    gru.load_state_dict(
        {key: weights[name + key + suffix] for key in gru.state_dict()}
    )
    state, states = torch.zeros(len(waves), CONTEXT), []
    for column in feat.unbind(2):
        state = gru(column, state)
        states.append(state)
    return torch.stack(states, 2)


@pytest.mark.parametrize('cell', [False, True])
@pytest.mark.parametrize('split', SPLITS)
def test_it_loads_and_gives_the_same_output(split, cell):
    checkpoint = published(split, cell)
    result = convert_gim_audio(checkpoint)
    encoder = CPCAudioEncoder(WIDTH, CONTEXT, bptt=not cell)
    encoder.load_state_dict(
        {
            key.removeprefix('backbone.'): value
            for key, value in result.state_dict.items()
        }
    )
    waves = torch.randn(2, 1, 1600)
    expected = run(checkpoint, split, cell, waves)
    torch.testing.assert_close(encoder(waves)[0], expected)
    assert len(result.state_dict) == 14
    assert len(result.dropped) == len(checkpoint) - 14


@pytest.mark.parametrize('split', SPLITS)
def test_local_heads_load_too(split, helpers):
    modules, _ = SPLITS[split]
    cuts = [f'layers.{i}' for i in (1, 2, 3, 4)][: len(modules) - 1]
    cuts += ['autoregressor'] * (split == 6)
    head = {'type': 'mmlocal.SequenceInfoNCEHead', 'num_steps': STEPS}
    last = {**head, 'target_channels': WIDTH}
    heads: dict | list = last
    if split == 'every':
        heads = [{**head, 'context_channels': CONTEXT}] * 4 + [last]
    cfg = helpers.audio_cfg(
        cuts, heads, channels=WIDTH, context_channels=CONTEXT
    )
    model = helpers.build({**cfg, 'head': None})
    result = convert_gim_audio(published(split), local_heads=True)
    assert not result.dropped
    model.load_state_dict(result.state_dict)


def test_supervised_heads_are_dropped_and_foreign_keys_refused():
    checkpoint = published(1)
    old = 'module.fullmodel.0.loss.predictor.weight'
    new = 'module.fullmodel.0.loss.linear_classifier.0.weight'
    checkpoint[new] = checkpoint.pop(old)
    dropped = convert_gim_audio(checkpoint).dropped
    assert dropped == [new.removeprefix('module.')]
    checkpoint['module.fullmodel.0.norm.weight'] = torch.ones(1)
    with pytest.raises(ValueError, match='audio: of its 16 keys 1 are unkn'):
        convert_gim_audio(checkpoint)
    with pytest.raises(ValueError, match='unknown'):
        convert_gim_audio({'model.Conv1.weight': torch.ones(1)})


def test_tool(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location(
        'gim_audio', ROOT / 'tools/model_converters/gim_audio.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    source, out = tmp_path / 'model_9.ckpt', tmp_path / 'out.pth'
    torch.save(published(6), source)
    tool.main([str(source), '--out', str(out), '--local-heads'])
    assert '20 keys: 20 mapped' in capsys.readouterr().out
    loaded = torch.load(out, weights_only=True)['state_dict']
    assert 'backbone.local_heads.5.predictor.weight' in loaded
