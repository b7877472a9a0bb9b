"""benchmarks/sweep.py on a sample of the configs that mm libraries ship."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# One of a kind.
SAMPLE = [
    'mmpretrain/shufflenet_v2',
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            'mmpretrain/lenet',
            'mmpretrain/mobileone',
            'mmpretrain/convnext_v2',
            'mmpretrain/mobilevit',
            'mmpretrain/vig',
            'mmseg/fcn',
            'mmseg/segformer',
        )
    ),
]


@pytest.fixture
def stock(monkeypatch):
    """Modules of the benchmark, by name."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    return lambda name: import_module(name)


def test_every_family_is_there_once(stock):
    configs = stock('stock.configs')
    found = list(configs.stock_configs())
    chosen = configs.one_a_family(iter(found))
    assert len(found) > 1000
    assert {c.family for c in chosen} == {c.family for c in found}
    assert len(chosen) == len({c.family for c in found}) > 100
    assert all(config.file.is_file() for config in chosen)


@pytest.mark.parametrize('family', SAMPLE)
def test_gradients_of_a_stock_config_are_those_of_the_oracle(stock, family):
    configs = stock('stock.configs')
    (config,) = configs.one_a_family(
        c for c in configs.stock_configs() if c.family == family
    )
    checks = ('trains', 'cut', 'greedy', 'infopro')
    if family == 'mmpretrain/lenet':
        checks += ('plan',)
    case = stock('stock.case').Case(config, lambda result: None, checks)
    found = case.run()['checks']
    failed = {k: c for k, c in found.items() if c['status'] != 'ok'}
    assert not failed
    assert found.keys() == {'config', *checks}


def test_a_config_that_breaks_off_costs_no_other(stock, monkeypatch, tmp_path):
    """And what has run is left out of the next run."""
    sweep = stock('sweep')

    class Case:
        def __init__(self, config, save):
            self.name, self.save = config.name, save

        def run(self):
            ok = {'status': 'ok', 'seconds': 1}
            self.save(
                {
                    'config': self.name,
                    'family': 'f',
                    'backbone': 'B',
                    'checks': {'config': ok, 'trains': ok},
                }
            )
            if 'lenet' in self.name:
                raise SystemExit(3)

    monkeypatch.setattr(sweep, 'Case', Case)
    page = tmp_path / 'page.md'
    argv = ['--out', str(tmp_path), '--page', str(page)]
    argv += ['mmpretrain/lenet', 'mmpretrain/vig']
    sweep.main(argv)
    results = json.loads((tmp_path / 'sweep.json').read_text())['results']
    assert [result['end'] for result in results] == ['exit code 3', '']
    assert 'Of 2 configs 2 train end to end here' in page.read_text()
    monkeypatch.setattr(sweep, 'run_process', None)
    sweep.main(argv)


def test_unknown_config(stock, tmp_path):
    with pytest.raises(SystemExit, match="no config 'mmseg/nothing'"):
        stock('sweep').main(['--out', str(tmp_path), 'mmseg/nothing'])


def test_the_largest_difference_is_found(stock):
    import torch

    difference = stock('stock.gradients').largest_difference
    one = {'a': torch.tensor([1.0, 2.0]), 'b': torch.zeros(1)}
    two = {'a': torch.tensor([1.0, 1.0])}
    assert difference(one, one) == ('', 0.0)
    assert difference(one, two) == ('a', 1.0)
    one['b'] = torch.tensor([float('nan')])
    assert difference(one, two)[0] == 'b'


def test_rounding_is_told_from_an_error(stock, helpers):
    """What float32 rounds differently is compared in float64."""
    import torch

    gradients = stock('stock.gradients')
    model = helpers.build(helpers.segmentor_cfg(['layer3.0']))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    batch = helpers.segmentation_batch()
    single = gradients.local_gradients(model, batch)
    with gradients.in_float64(model):
        double = gradients.local_gradients(model, batch)
    assert {grad.dtype for grad in double.values()} == {torch.float64}
    assert 0 < gradients.largest_difference(single, double)[1] < 0.1
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert torch.zeros(1).dtype is torch.float32
