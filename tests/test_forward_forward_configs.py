"""Configs of Forward-Forward, against the published settings."""

from copy import deepcopy
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

ROOT = Path(__file__).parents[1] / 'configs'
NAMES = sorted(
    path.stem
    for path in (ROOT / 'forward_forward').glob('*.py')
    if '_sequential' not in path.stem
)
METHODS = {
    'topleft': 'top-left',
    'avgsub': 'average-subtraction',
    'avgmix': 'average-mixture',
    'avg2ch': 'average-2channel',
    'fixmix': 'fixed-example-mixture',
    'fix2ch': 'fixed-example-2channel',
    'digits': 'top-left',
}


def load(name: str) -> Config:
    folder = 'forward_forward' if name.startswith('ff_') else 'e2e'
    return Config.fromfile(ROOT / folder / f'{name}.py')


def build(name):
    cfg = load(name)
    init_default_scope(cfg.default_scope)
    model = deepcopy(cfg.model)
    model.data_preprocessor = cfg.data_preprocessor
    return MODELS.build(model)


def test_each_net_with_each_embedding():
    found = {tuple(name.split('_')[1::2]) for name in NAMES}
    found.discard(('mlp',))  # digits
    two = {'avg2ch', 'fix2ch'}
    one = METHODS.keys() - {'digits'} - two
    assert found == {('mlp', m) for m in one} | {('cnn', m) for m in one | two}


@pytest.mark.parametrize('name', NAMES)
def test_settings(name):
    _, net, *data = name.split('_')
    model, cfg = build(name), load(name)
    assert model.embedding.method == METHODS[data[-1]]
    parameters = sum(p.numel() for p in model.parameters())
    layers = model.backbone.backbone.layers
    assert (
        model.backbone.num_modules
        == len(layers)
        == len(model.backbone.local_heads)
    )
    assert {head.theta for head in model.backbone.local_heads} == {2.0}
    assert cfg.optim_wrapper.optimizer == {'type': 'Adam', 'lr': 0.03}
    if data == ['digits']:
        return
    expected = {'mlp': 3_798_010, 'cnn': 1_199_882}[net]
    if model.embedding.method.endswith('2channel'):
        expected += 32 * 9
    assert parameters == expected
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_cfg.max_epochs == 10
    mean, std = cfg.data_preprocessor['mean'], cfg.data_preprocessor['std']
    assert (mean[0] / 255, std[0] / 255) == pytest.approx((0.1307, 0.3081))


@pytest.mark.parametrize('name', ['mlp_mnist', 'cnn_mnist', 'mlp_digits'])
def test_twin_has_the_same_layers(name):
    twin = build(f'ff-{name}')
    method = '' if 'digits' in name else '_topleft'
    model = build(f'ff_{name}{method}')
    layers = [w.shape for w in model.backbone.parameters()]
    own = [w.shape for w in twin.parameters()]
    # Its own head is in place of the last, of a unit a class.
    assert own[: len(twin.backbone.layers) * 2] == layers[: len(own) - 2]
    found, other = load(f'ff-{name}'), load(f'ff_{name}{method}')
    for key in 'train_dataloader', 'train_cfg', 'test_dataloader':
        assert found[key] == other[key]
    assert found.optim_wrapper.optimizer == other.optim_wrapper.optimizer


@pytest.mark.parametrize('suffix', ['', '_sequential'])
@pytest.mark.slow
def test_short_run(suffix, tmp_path):
    """Train, validate each layer, save."""
    cfg = load(f'ff_mlp_digits{suffix}')
    if suffix:
        cfg.train_cfg.update(epochs=1, val_interval=1)
    else:
        cfg.train_cfg.update(max_epochs=2, val_interval=1)
    cfg.train_dataloader.dataset.indices = 128
    cfg.work_dir = str(tmp_path)
    cfg.experiment_name = cfg.visualizer.name = tmp_path.name
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 4
    (log,) = tmp_path.glob('*/*.log')
    lines = [
        line for line in log.read_text().splitlines() if 'Epoch(val)' in line
    ]
    assert len(lines) == 2
    for index, line in enumerate(lines):
        assert ' accuracy/top1' in line and 'module_1/accuracy/top1' in line
        both = index == 1 or not suffix
        assert ('module_2/accuracy/top1' in line) == both
        assert 'ensemble' not in line
    assert list(tmp_path.glob('epoch_2.pth'))
