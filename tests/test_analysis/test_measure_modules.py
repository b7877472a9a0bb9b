"""tools/analysis_tools/measure_modules.py."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis_tools/measure_modules.py'
    spec = importlib.util.spec_from_file_location('measure_modules', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, shapes_cfg, shapes_model, tmp_path):
    """Measure CKA of a checkpoint, and others, with further arguments."""
    config, weights = tmp_path / 'config.py', tmp_path / 'epoch_1.pth'
    shapes_cfg.dump(config)
    meta = {'epoch': 1, 'iter': 3}
    torch.save(
        {'state_dict': shapes_model.state_dict(), 'meta': meta}, weights
    )

    def run(*args, checkpoints=('initial', weights)):
        out = tmp_path / 'out.json'
        argv = [config, *checkpoints, '--out', out, '--measure', 'cka']
        argv += ['--set', 'cka.num_images=20', *args]
        tool.main([str(arg) for arg in argv])
        return json.loads(out.read_text())['entries']

    run.config, run.weights = config, weights
    return run


def test_checkpoints_are_measured_once(run, capsys):
    entries = run()
    assert [entry['epoch'] for entry in entries] == [0, 1]
    assert entries[1]['checkpoint'] == 'epoch_1.pth'
    assert entries[1]['iter'] == 3
    table = entries[1]['measures']['cka']['modules']
    assert len(table) == 2
    assert table[0][0] == pytest.approx(1)
    capsys.readouterr()
    assert run() == entries
    assert capsys.readouterr().out.count('measured already') == 2


def test_a_network_is_like_itself_and_a_figure_is_drawn(run, tmp_path):
    figure = tmp_path / 'figure.png'
    reference = ('--reference', run.config, run.weights)
    entries = run(*reference, '--plot', figure, checkpoints=[run.weights])
    own, other = entries[0]['measures']['cka'].values()
    torch.testing.assert_close(torch.tensor(own), torch.tensor(other))
    assert figure.stat().st_size > 1000


def test_an_end_to_end_model_is_cut_like_another(tool, run, tmp_path):
    e2e = ROOT / 'configs/e2e/resnet20_shapes.py'
    out = tmp_path / 'e2e.json'
    options = [
        'val_dataloader.dataset.num_images=20',
        'model.backbone.depth=8',
    ]
    argv = [e2e, 'initial', '--like', run.config, '--out', out]
    argv += ['--measure', 'cka', '--set', 'cka.num_images=20']
    tool.main([*map(str, argv), '--cfg-options', *options])
    (entry,) = json.loads(out.read_text())['entries']
    assert entry['modules'] == ['module 1', 'module 2']


@pytest.mark.parametrize(
    'args, message',
    [
        (['--set', 'nhsic.m=4'], 'nhsic: not among --measure cka'),
        (['--outputs', 'layer9'], "no submodule 'layer9'"),
        (['--set', 'cka.num_images=41'], 'the data set has 40 images'),
    ],
)
def test_mistakes_are_named_in_a_line(run, capsys, args, message):
    with pytest.raises(SystemExit) as info:
        run(*args)
    assert info.value.code == 2
    assert message in capsys.readouterr().err


def test_weights_of_another_model_are_refused(run, capsys, tmp_path):
    other = tmp_path / 'other.pth'
    torch.save({'weight': torch.zeros(1)}, other)
    with pytest.raises(SystemExit):
        run(checkpoints=[other])
    assert 'other.pth does not fit the config' in capsys.readouterr().err
