"""tools/analysis_tools/transfer_probe.py and its report."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmlocal.analysis import Reading, Source
from mmlocal.analysis.tradeoff import (
    InTheEyesOf,
    logged_accuracy,
    measured_accuracy,
    plot_tradeoff,
)

ROOT = Path(__file__).parents[2]
QUICK = [
    'transfer.epochs=2',
    'mine.iterations=2',
    'mine.hidden=4',
    'mine.repeats=2',
]


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis_tools/transfer_probe.py'
    spec = importlib.util.spec_from_file_location('transfer_probe', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tool, shapes_cfg, shapes_model, tmp_path):
    """Probe two checkpoints; the first one's accuracy is in a log."""
    config, target = tmp_path / 'config.py', tmp_path / 'target.py'
    shapes_cfg.dump(config)
    shapes_cfg.val_dataloader.dataset.num_images = 30
    shapes_cfg.data_preprocessor.mean = [0.0, 0.0, 0.0]
    keys = 'train_dataloader', 'val_dataloader', 'data_preprocessor'
    Config({key: shapes_cfg[key] for key in keys}).dump(target)
    paths = []
    for epoch in 1, 2:
        paths.append(tmp_path / f'epoch_{epoch}.pth')
        meta = {'epoch': epoch, 'iter': 3 * epoch}
        weights = shapes_model.state_dict()
        torch.save({'state_dict': weights, 'meta': meta}, paths[-1])
    log(tmp_path, '20260101', [{'accuracy/top1': 43.5, 'step': 1}])

    def run(*args, checkpoints=paths, target=target):
        out = tmp_path / 'out.json'
        argv = [config, target, '--checkpoints', *checkpoints, '--out', out]
        argv += ['--set', *QUICK, *args]
        tool.main([str(arg) for arg in argv])
        return json.loads(out.read_text())['entries']

    return run


def log(folder, time, rows):
    path = folder / time / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.mark.slow
def test_the_report_and_going_on_with_it(run, tmp_path, capsys):
    figure = tmp_path / 'figure.png'
    entries = run('--plot', figure)
    assert [entry['epoch'] for entry in entries] == [1, 2]
    for entry in entries:
        assert {*entry['measures']} == {'source', 'transfer', 'mine_target'}
        assert {'xt', 'ty'} <= {*entry['measures']['mine_target']}
    # Of the log; the other one is measured, of these untrained weights.
    assert entries[0]['measures']['source']['accuracy'] == [43.5]
    assert entries[1]['measures']['source']['accuracy'][0] < 43.5
    with (tmp_path / 'out.csv').open() as stream:
        rows = list(csv.DictReader(stream))
    accuracy = entries[1]['measures']['transfer']['accuracy'][0]
    assert float(rows[1]['transfer/accuracy']) == accuracy
    assert rows[1]['epoch'] == '2'
    assert figure.stat().st_size > 1000

    capsys.readouterr()
    assert run() == entries
    assert capsys.readouterr().out.count('measured already') == 2
    changed = run('--select', 'last')  # only what depends on it, anew
    lines = capsys.readouterr().out
    assert lines.count('.pth: transfer ') == 2
    assert ': mine' not in lines and ': source' not in lines
    before, after = entries[0]['measures'], changed[0]['measures']
    assert before['mine_target'] == after['mine_target']


@pytest.mark.slow
def test_batch_mode_on_few_measures(run, capsys):
    entries = run('--bn-mode', 'batch', '--mine', 'source')
    assert entries[0]['settings']['transfer']['bn_mode'] == 'batch'
    assert 'mine_source' in entries[0]['measures']
    assert 'mine_target' not in entries[0]['measures']


@pytest.mark.parametrize(
    'args, kwargs, message',
    [
        (['--set', 'probe.lr=1'], {}, '--set probe: write transfer.KEY'),
        ([], {'target': 'omniglot'}, 'there is no config omniglot'),
        (['--set', 'transfer.steps=1'], {}, "no argument 'steps'"),
    ],
)
def test_mistakes_are_named_in_a_line(run, capsys, args, kwargs, message):
    with pytest.raises(SystemExit) as info:
        run(*args, **kwargs)
    assert info.value.code == 2
    assert message in capsys.readouterr().err.replace('\n', ' ')


@pytest.mark.slow
def test_another_target_needs_another_file(run, tool, tmp_path, capsys):
    run('--mine')
    other = tmp_path / 'other.py'
    other.write_text((tmp_path / 'target.py').read_text())
    with pytest.raises(SystemExit):
        run(target=other)
    assert 'is of another target' in capsys.readouterr().err


def test_targets_have_names(tool):
    cfg = Config({'default_scope': 'mmpretrain'})
    target = tool.target_config('svhn', cfg)
    assert target.train_dataloader.dataset.type == 'mmlocal.SVHN'
    assert target.default_scope == 'mmpretrain'


def test_the_newest_log_that_has_the_epoch(tmp_path):
    log(
        tmp_path,
        '20260101_1',
        [
            {'loss': 1.0, 'step': 2},
            {'accuracy/top1': 10.0, 'step': 1},
            {'accuracy/top1': 20.0, 'step': 2},
        ],
    )
    log(tmp_path, '20260102_1', [{'accuracy/top1': 21.0, 'step': 2}])
    checkpoint = tmp_path / 'epoch_2.pth'
    assert logged_accuracy(checkpoint, 2) == 21
    assert logged_accuracy(checkpoint, 1) == 10
    assert logged_accuracy(checkpoint, 3) is None
    assert logged_accuracy(checkpoint, None) is None


def test_measured_accuracy_is_that_of_the_runner(shapes_cfg, shapes_model):
    from mmpretrain.evaluation import Accuracy

    source = Source(shapes_cfg)
    shapes_model.eval()
    metric = Accuracy()
    with torch.no_grad():
        for batch in source.batches(Reading('val')):
            samples = shapes_model.val_step(batch)
            metric.process(batch, [each.to_dict() for each in samples])
    expected = metric.compute_metrics(metric.results)['top1']
    assert measured_accuracy(shapes_model, source) == pytest.approx(expected)


def test_images_are_normalized_as_the_target_says(shapes_cfg, shapes_model):
    cfg = Config({'data_preprocessor': dict(mean=[1.0] * 3, std=[2.0] * 3)})
    viewed = InTheEyesOf(shapes_model, cfg)
    batch = {'inputs': [torch.full((3, 8, 8), 5)], 'data_samples': None}
    assert (viewed.data_preprocessor(batch)['inputs'] == 2).all()
    plain = InTheEyesOf(shapes_model, Config({}))
    assert plain.data_preprocessor is shapes_model.data_preprocessor


def test_a_figure_needs_epochs(tmp_path):
    with pytest.raises(ValueError, match='of which epoch'):
        plot_tradeoff(
            {'run': [{'epoch': None, 'measures': {}}]}, tmp_path / 'a.png'
        )


def test_runs_stand_side_by_side(tmp_path):
    entries = [
        {
            'epoch': epoch,
            'measures': {
                'source': {'accuracy': [50.0 + epoch]},
                'transfer': {'accuracy': [60.0 - epoch]},
            },
        }
        for epoch in (1, 2)
    ]
    widths = []
    for count in (1, 3):
        path = tmp_path / f'{count}.png'
        plot_tradeoff({f'run {i}': entries for i in range(count)}, path)
        widths.append(Image.open(path).width)
    assert widths[1] == widths[0] + 2 * 540
