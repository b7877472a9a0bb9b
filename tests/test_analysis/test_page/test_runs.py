"""Work dirs: read, joined, and told apart."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest

from mmlocal.analysis.page import make_page, read_run
from mmlocal.analysis.page.differences import differences
from mmlocal.analysis.page.facts import facts_of, progress
from mmlocal.analysis.page.runs import short_names

ROOT = Path(__file__).parents[3]


def test_resumed_runs_are_joined_and_later_values_win(pages, tmp_path):
    first = [
        *(pages.train_line(i, loss=float(i)) for i in (2, 4, 6)),
        {'accuracy/top1': 11.0, 'step': 1},
        {'accuracy/top1': 12.0, 'step': 2},
    ]
    second = [
        pages.train_line(6, loss=60.0),
        pages.train_line(8, loss=80.0),
        {'accuracy/top1': 22.0, 'step': 2},
    ]
    pages.write_part(
        tmp_path / 'run',
        second,
        '20260102_100000',
        log=pages.text_log(['resumed epoch: 1, iter: 4']),
    )
    pages.write_part(tmp_path / 'run', first, '20260101_100000')
    run = read_run(tmp_path / 'run')
    assert [p.iteration for p in run.train] == [2, 4, 6, 8]
    assert run.logged('loss') == [2, 4, 60, 80]
    assert [p.values['accuracy/top1'] for p in run.val] == [11, 22]
    assert run.notes == ['Resumed after iteration 4 on 2026-01-02 10:00:00.']
    assert 'Resumed after iteration 4' in make_page([run])


def test_resumed_without_a_text_log(pages, tmp_path):
    path = tmp_path / 'run'
    lines = [pages.train_line(i, loss=float(i)) for i in (2, 4, 6)]
    pages.write_part(path, lines, '20260101_100000', log=None)
    lines = [pages.train_line(6, loss=60.0), {'accuracy/top1': 9.0, 'step': 2}]
    pages.write_part(path, lines, '20260102_100000', log=None)
    run = read_run(path)
    assert run.logged('loss') == [2, 4, 60]
    # Without it nobody knows how long an epoch is.
    assert not run.counts_epochs and run.val[0].iteration == 6
    assert pages.curves(make_page([run]), 'accuracy/top1')['run']['x'] == [6]


def test_a_training_from_the_start_replaces_the_one_before(pages, tmp_path):
    path = tmp_path / 'run'
    pages.write_part(path, pages.local_lines(), '20260101_100000')
    pages.write_part(path, [pages.train_line(2, loss=9.0)], '20260102_100000')
    run = read_run(path)
    assert run.logged('loss') == [9] and not run.val
    assert run.notes[0].startswith('Trained anew on 2026-01-02 10:00:00')


@pytest.mark.parametrize(
    ('checkpoint', 'epochs', 'words', 'done'),
    [
        ('', 2, '2 epochs', True),
        ('', 4, '2 of 4 epochs, unfinished', False),
        ('epoch_3.pth', 4, '3 of 4 epochs, unfinished', False),
        ('epoch_4.pth', 4, '4 epochs', True),
    ],
)
def test_unfinished_runs_say_so(
    pages, tmp_path, checkpoint, epochs, words, done
):
    path = tmp_path / 'run'
    pages.write_part(
        path, pages.local_lines(), cfg=pages.config(epochs=epochs)
    )
    if checkpoint:
        (path / 'last_checkpoint').write_text(f'/somewhere/{checkpoint}')
    run = read_run(path)
    assert progress(run) == (words, done)
    assert ('may still change' in make_page([run])) is not done


def test_facts_of_a_run(local, plain):
    facts = facts_of(read_run(local))
    assert facts['Config'] == 'dgl_shapes'
    assert facts['Modules K'] == '3'
    assert facts['Cut before'] == (
        'layer2.0, layer3.0 (EqualDepth num_modules=3)'
    )
    assert facts['Local heads'] == 'DGL (net mlp-sr)'
    assert facts['Modules train'] == 'together'
    assert facts['Seed'] == '7'
    assert facts['Trained'] == '2 epochs'
    assert facts['Took'] == '1 min 00 s'
    assert facts['PyTorch'] == '2.9.0'
    plain_facts = facts_of(read_run(plain))
    assert plain_facts['Modules K'] == '1'
    assert plain_facts['Local heads'] == 'none: end to end'


def test_config_that_cannot_be_read(pages, tmp_path):
    pages.write_part(tmp_path / 'run', pages.local_lines(), cfg='1 +')
    run = read_run(tmp_path / 'run')
    assert facts_of(run)['Modules K'] == '3'  # counted in the log
    assert 'config.py cannot be read (SyntaxError)' in make_page([run])


def test_differences_compare_a_cut_backbone_with_a_plain_one(pages, tmp_path):
    pipeline = (
        'train_pipeline = [dict(type="A", size=2), dict(type="B")]\n'
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
        'custom_hooks = [dict(type="mmlocal.LocalLossHook")]'
    )
    other = pipeline.replace('dict(type="A", size=2), ', '')
    other = other.replace('[dict(type="mmlocal.LocalLossHook")]', '[]')
    for name, cfg in {
        'a': pages.config(extra=pipeline),
        'b': pages.config(pages.PLAIN_BACKBONE, extra=other),
    }.items():
        pages.write_part(tmp_path / name, pages.plain_lines(), cfg=cfg)
    runs = [read_run(tmp_path / name) for name in 'ab']
    found = differences(runs)
    assert found['model.backbone.boundaries.num_modules'] == ['3', None]
    assert found['train_dataloader.dataset.pipeline'] == [
        'A(size=2) → B',
        'B',
    ]
    assert found['custom_hooks.LocalLossHook.type'] == ['LocalLossHook', None]
    assert 'model.backbone.depth' not in found
    assert 'model.backbone.type' not in found
    assert not any(key.startswith('train_pipeline') for key in found)
    html = make_page(runs)
    for key in found:
        assert key in html
    assert 'The configs are the same.' in make_page([runs[0], runs[0]])


def test_short_names_keep_what_tells_apart():
    names = [Path(p) for p in ('x/e2e_resnet32', 'x/dgl_resnet32_k4')]
    assert short_names(names) == ['e2e', 'dgl k4']
    names = [Path(p) for p in ('w/infopro/shapes', 'w/dgl/shapes')]
    assert short_names(names) == ['infopro', 'dgl']
    assert short_names([Path('w/dgl/shapes')]) == ['shapes']
    names = [Path(p) for p in ('w/resnet', 'w/resnet_long')]
    assert short_names(names) == ['resnet', 'resnet_long']


@pytest.mark.slow
def test_a_real_training_that_is_resumed(pages, tmp_path):
    """What is read of logs is what mmengine and MMLocal write."""
    path = ROOT / 'tools' / 'train.py'
    spec = importlib.util.spec_from_file_location('train', path)
    train = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(train)
    options = [
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'train_dataloader.batch_size=4',
        'train_dataloader.dataset.num_images=16',
        'val_dataloader.num_workers=0',
        'val_dataloader.persistent_workers=False',
        'val_dataloader.dataset.num_images=4',
        'train_cfg.val_interval=1',
        'default_hooks.logger.interval=1',
    ]
    argv = [str(ROOT / 'configs/infopro/resnet20_shapes.py')]
    argv += ['--work-dir', str(tmp_path), '--cfg-options', *options]
    train.main([*argv, 'train_cfg.max_epochs=1'])
    time.sleep(1)  # a run is named by the second in which it starts
    train.main([*argv[:3], '--resume', *argv[3:], 'train_cfg.max_epochs=2'])
    run = read_run(tmp_path)
    assert [point.iteration for point in run.train] == list(range(1, 9))
    assert [point.epoch for point in run.val] == [1, 2]
    assert run.log.resumed_at == 4 and run.counts_epochs
    facts = facts_of(run)
    assert facts['Config'] == 'resnet20_shapes'
    assert facts['Cut before'].startswith('layer2.1 (EqualDepth')
    assert facts['PyTorch'] and facts['Trained'] == '2 epochs'
    html = make_page([run])
    pages.Page(html)
    for title in ('loss_recon of module 1', 'accuracy/top1 of each module'):
        assert pages.figure(html, title)
    assert html.count('<img src="data:image/') == 1
