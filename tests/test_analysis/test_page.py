"""Runs side by side, from folders as a training leaves them."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmlocal.analysis.page import make_page, read_run, read_runs
from mmlocal.analysis.page.differences import differences
from mmlocal.analysis.page.facts import facts_of, progress
from mmlocal.analysis.page.pictures import MAX_WIDTH, newest_pictures
from mmlocal.analysis.page.runs import short_names

ROOT = Path(__file__).parents[2]
NAN = float('nan')
VOID = {'meta', 'input', 'img', 'br', 'link'}
LOCAL_BACKBONE = """dict(
    type='mmlocal.LocalSupervisedBackbone',
    backbone=dict(type='mmlocal.CIFARResNet', depth=20),
    boundaries=dict(type='mmlocal.EqualDepth', num_modules=3),
    local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr', num_classes=5))"""
PLAIN_BACKBONE = "dict(type='mmlocal.CIFARResNet', depth=20)"


def config(backbone=LOCAL_BACKBONE, epochs=2, extra='') -> str:
    return (
        f"model = dict(type='ImageClassifier', backbone={backbone})\n"
        'optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))\n'
        f'train_cfg = dict(by_epoch=True, max_epochs={epochs})\n'
        'default_hooks = dict(logger=dict(type="LoggerHook", interval=2))\n'
        'randomness = dict(seed=7)\n'
        f'{extra}\n'
    )


def text_log(lines=(), size=4) -> str:
    now = '2026/01/01 10:0{}:00 - mmengine - INFO - {}'
    messages = [
        "boundaries=['layer2.0', 'layer3.0']",
        f'Epoch(train)  [1][2/{size}]  lr: 1.0e-01',
        *lines,
    ]
    head = '    PyTorch: 2.9.0\n    MMEngine: 0.10.12\n'
    return head + ''.join(
        now.format(minute, message) + '\n'
        for minute, message in enumerate(messages)
    )


def train_line(iteration, **values) -> dict:
    place = {'epoch': 1, 'iter': iteration, 'step': iteration}
    return {'lr': 0.1, 'data_time': 0.01, 'time': 0.5, **values, **place}


def write_part(
    work_dir: Path,
    lines: list[dict],
    stamp='20260101_100000',
    cfg: str | None = None,
    log: str | None = '',
) -> Path:
    """A folder as one start of a training makes it."""
    folder = work_dir / stamp
    (folder / 'vis_data').mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'vis_data' / 'scalars.json').write_text(text)
    (folder / 'vis_data' / 'config.py').write_text(cfg or config())
    if log is not None:
        (folder / f'{stamp}.log').write_text(log or text_log())
    return folder


def local_lines() -> list[dict]:
    """Two epochs of four iterations in three modules."""
    lines = []
    for iteration in range(2, 9, 2):
        values = {
            'loss': 2.0 / iteration,
            'local_0.loss_task': 3.0 / iteration,
            'local_1.loss_task': 4.0 / iteration,
            'local_0.acc': 10.0 * iteration,
        }
        lines.append(train_line(iteration, **values))
        if iteration % 4 == 0:
            epoch = iteration // 4
            lines.append(
                {
                    'accuracy/top1': 30.0 + epoch,
                    'module_1/accuracy/top1': 10.0 + epoch,
                    'module_2/accuracy/top1': 20.0 + epoch,
                    'ensemble_2/accuracy/top1': 25.0 + epoch,
                    'module_3/accuracy/top1': 30.0 + epoch,
                    'data_time': 0.1,
                    'time': 0.2,
                    'step': epoch,
                }
            )
    return lines


def plain_lines() -> list[dict]:
    lines = [
        train_line(i, loss=1.0 / i, time=0.25, memory=2048)
        for i in range(2, 9, 2)
    ]
    return [*lines, {'accuracy/top1': 50.5, 'time': 1.0, 'step': 2}]


@pytest.fixture
def local(tmp_path) -> Path:
    path = tmp_path / 'dgl_k3'
    write_part(path, local_lines())
    (path / 'dgl_shapes.py').write_text('')
    return path


@pytest.fixture
def plain(tmp_path) -> Path:
    path = tmp_path / 'e2e'
    no_cuts = text_log().replace('boundaries', 'nothing')
    write_part(path, plain_lines(), cfg=config(PLAIN_BACKBONE), log=no_cuts)
    return path


class Page(HTMLParser):
    """Tags, texts and addresses; an error where tags do not match."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == 'id']
        self.addresses += [v for k, v in attrs if k in ('src', 'href')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag


def figure(html: str, title: str) -> str:
    (found,) = re.findall(
        rf'<h3>{re.escape(title)}</h3>.*?</figure>', html, re.S
    )
    return found


def curves(html: str, title: str, panel: int = 0) -> dict[str, dict]:
    """What a script reads of a figure: x and y by the names of curves."""
    texts = re.findall(
        r'<script type="application/json">(.*?)</script>', figure(html, title)
    )
    lines = json.loads(texts[panel])['lines']
    return {line['name']: line for line in lines}


def cells(html: str, title: str) -> list[list[str]]:
    """The table below a figure."""
    rows = re.findall(r'<tr>(.*?)</tr>', figure(html, title), re.S)
    return [
        [unescape(t) for t in re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row)]
        for row in rows
    ]


def test_values_are_those_of_the_log(local, plain):
    html = make_page(read_runs([f'{plain}=e2e', f'{local}=dgl']))
    loss = curves(html, 'Loss of the model’s own heads')
    assert loss['dgl']['x'] == [0.5, 1, 1.5, 2]
    assert loss['dgl']['y'] == pytest.approx([1, 0.5, 1 / 3, 0.25], rel=1e-5)
    assert loss['e2e']['y'] == pytest.approx([0.5, 0.25, 1 / 6, 0.125], 1e-5)
    top1 = curves(html, 'accuracy/top1')
    assert (top1['dgl']['x'], top1['dgl']['y']) == ([1, 2], [31, 32])
    assert (top1['e2e']['x'], top1['e2e']['y']) == ([2], [50.5])
    assert cells(html, 'accuracy/top1') == [
        ['epoch', 'e2e', 'dgl'],
        ['1', '', '31'],
        ['2', '50.50', '32'],
    ]


def test_modules_are_counted_from_one(local):
    html = make_page([read_run(local)])
    title = 'loss_task by module'
    assert re.findall('<h4>(.*?)</h4>', figure(html, title)) == [
        'module 1',
        'module 2',
    ]
    assert curves(html, title, 0)['dgl_k3']['y'][0] == 1.5
    assert curves(html, title, 1)['dgl_k3']['y'][0] == 2
    assert curves(html, 'acc of module 1')['dgl_k3']['y'] == [20, 40, 60, 80]
    modules = curves(html, 'accuracy/top1 of each module')
    assert {name: line['y'] for name, line in modules.items()} == {
        'module 1': [11, 12],
        'module 2': [21, 22],
        'module 3': [31, 32],
    }
    assert 'module 0' not in html and 'local_0' not in html


def test_depth_is_that_of_the_last_validation(local, plain):
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    title = 'accuracy/top1 by depth, at the last validation'
    found = curves(html, title)
    assert found['dgl']['y'] == [12, 22, 32]
    assert found['dgl']['x'] == [1, 2, 3]
    assert found['dgl, ensemble']['y'] == [None, 27, None]
    assert found['e2e']['y'] == [50.5] * 3
    assert cells(html, title)[1] == ['dgl', '2', '12', '22', '32']


def test_runs_in_other_numbers_of_modules_share_an_axis(local, tmp_path):
    lines = [
        {'module_1/accuracy/top1': 5.0, 'module_2/accuracy/top1': 6.0}
        | {'accuracy/top1': 6.0, 'step': 1}
    ]
    backbone = LOCAL_BACKBONE.replace('num_modules=3', 'num_modules=2')
    log = text_log().replace(", 'layer3.0'", '')
    write_part(tmp_path / 'two', lines, cfg=config(backbone), log=log)
    html = make_page(read_runs([str(local), f'{tmp_path}/two']))
    found = curves(html, 'accuracy/top1 by depth, at the last validation')
    assert found['two']['x'] == [0.5, 1]
    assert found['dgl k3']['x'] == pytest.approx([1 / 3, 2 / 3, 1], rel=1e-5)


def test_time_and_memory_as_medians_and_ratios(local, plain):
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    assert cells(html, 'Time of an iteration')[1:] == [
        ['dgl', '0.5000', '0.5000', '0.5000', '1.00'],
        ['e2e', '0.2500', '0.2500', '0.2500', '0.50'],
    ]
    assert cells(html, 'Peak memory of a GPU')[1:] == [
        ['e2e', '2', '2', '2', '1.00']
    ]


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


def test_differences_compare_a_cut_backbone_with_a_plain_one(tmp_path):
    pipeline = (
        'train_pipeline = [dict(type="A", size=2), dict(type="B")]\n'
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
        'custom_hooks = [dict(type="mmlocal.LocalLossHook")]'
    )
    other = pipeline.replace('dict(type="A", size=2), ', '')
    other = other.replace('[dict(type="mmlocal.LocalLossHook")]', '[]')
    for name, cfg in {
        'a': config(extra=pipeline),
        'b': config(PLAIN_BACKBONE, extra=other),
    }.items():
        write_part(tmp_path / name, plain_lines(), cfg=cfg)
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


def test_resumed_runs_are_joined_and_later_values_win(tmp_path):
    first = [
        *(train_line(i, loss=float(i)) for i in (2, 4, 6)),
        {'accuracy/top1': 11.0, 'step': 1},
        {'accuracy/top1': 12.0, 'step': 2},
    ]
    second = [
        train_line(6, loss=60.0),
        train_line(8, loss=80.0),
        {'accuracy/top1': 22.0, 'step': 2},
    ]
    write_part(
        tmp_path / 'run',
        second,
        '20260102_100000',
        log=text_log(['resumed epoch: 1, iter: 4']),
    )
    write_part(tmp_path / 'run', first, '20260101_100000')
    run = read_run(tmp_path / 'run')
    assert [p.iteration for p in run.train] == [2, 4, 6, 8]
    assert run.logged('loss') == [2, 4, 60, 80]
    assert [p.values['accuracy/top1'] for p in run.val] == [11, 22]
    assert run.notes == ['Resumed after iteration 4 on 2026-01-02 10:00:00.']
    assert 'Resumed after iteration 4' in make_page([run])


def test_resumed_without_a_text_log(tmp_path):
    path = tmp_path / 'run'
    lines = [train_line(i, loss=float(i)) for i in (2, 4, 6)]
    write_part(path, lines, '20260101_100000', log=None)
    lines = [train_line(6, loss=60.0), {'accuracy/top1': 9.0, 'step': 2}]
    write_part(path, lines, '20260102_100000', log=None)
    run = read_run(path)
    assert run.logged('loss') == [2, 4, 60]
    # Without it nobody knows how long an epoch is.
    assert not run.counts_epochs and run.val[0].iteration == 6
    assert curves(make_page([run]), 'accuracy/top1')['run']['x'] == [6]


def test_a_training_from_the_start_replaces_the_one_before(tmp_path):
    path = tmp_path / 'run'
    write_part(path, local_lines(), '20260101_100000')
    write_part(path, [train_line(2, loss=9.0)], '20260102_100000')
    run = read_run(path)
    assert run.logged('loss') == [9] and not run.val
    assert run.notes[0].startswith('Trained anew on 2026-01-02 10:00:00')


def test_iterations_where_a_run_counts_no_epochs(local, tmp_path):
    cfg = config().replace('by_epoch=True, max_epochs=2', 'max_iters=100')
    cfg += 'default_hooks["logger"]["log_metric_by_epoch"] = False\n'
    lines = [train_line(50, loss=1.0), {'mIoU': 40.0, 'step': 60}]
    log = text_log().replace('Epoch(train)', 'Iter(train)')
    write_part(tmp_path / 'seg', lines, cfg=cfg, log=log)
    runs = read_runs([str(local), f'{tmp_path}/seg'])
    html = make_page(runs)
    assert curves(html, 'mIoU')['seg']['x'] == [60]
    assert curves(html, 'accuracy/top1')['dgl k3']['x'] == [4, 8]
    assert 'Not in the log of dgl k3.' in figure(html, 'mIoU')
    assert progress(runs[1]) == ('60 of 100 iterations, unfinished', False)


@pytest.mark.parametrize(
    ('checkpoint', 'epochs', 'words', 'done'),
    [
        ('', 2, '2 epochs', True),
        ('', 4, '2 of 4 epochs, unfinished', False),
        ('epoch_3.pth', 4, '3 of 4 epochs, unfinished', False),
        ('epoch_4.pth', 4, '4 epochs', True),
    ],
)
def test_unfinished_runs_say_so(tmp_path, checkpoint, epochs, words, done):
    path = tmp_path / 'run'
    write_part(path, local_lines(), cfg=config(epochs=epochs))
    if checkpoint:
        (path / 'last_checkpoint').write_text(f'/somewhere/{checkpoint}')
    run = read_run(path)
    assert progress(run) == (words, done)
    assert ('may still change' in make_page([run])) is not done


def test_missing_numbers_interrupt_and_are_told(tmp_path):
    losses = [1.0, NAN, 0.5, float('inf')]
    lines = [train_line(2 * i + 2, loss=v) for i, v in enumerate(losses)]
    folder = write_part(tmp_path / 'run', lines)
    with open(folder / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"loss": 0.')  # killed while it wrote
    run = read_run(tmp_path / 'run')
    html = make_page([run])
    y = curves(html, 'Loss of the model’s own heads')['run']['y']
    assert y == [1, None, 0.5, None]
    assert 'NaN or infinite in 2 of 4 lines, first at iteration 4' in html
    assert 'scalars.json: line 5 of 5 cannot be read' in html
    assert ['1', 'NaN'] in cells(html, 'Loss of the model’s own heads')


def test_nothing_but_missing_numbers(tmp_path):
    write_part(tmp_path / 'run', [train_line(2, loss=NAN)])
    html = make_page([read_run(tmp_path / 'run')])
    assert 'No finite value' in figure(html, 'Loss of the model’s own heads')


def test_page_is_whole_and_alone(local, plain):
    add_measures(local)
    add_picture(local, 'local_modules_8.png', 40)
    html = make_page(read_runs([str(local), str(plain)]))
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    assert all(a.startswith(('#', 'data:')) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a[0] == '#'} <= {*page.ids}
    assert 'link' not in page.tags and 'iframe' not in page.tags
    assert not re.search(r'https?://|@import|url\(', html)
    assert page.tags.count('svg') > page.tags.count('figure') > 8


def test_names_are_escaped(tmp_path):
    evil = '<b onload="x">&</script>'
    lines = [train_line(2, **{'loss': 1.0, f'loss{evil}': 2.0})]
    path = tmp_path / 'run'
    write_part(path, lines, cfg=config(extra=f'work_dir = {evil!r}'))
    write_part(
        tmp_path / 'two',
        lines,
        cfg=config(extra=f'load_from = {evil!r}'),
    )
    measures = {'m': {evil: [1.0, 2.0]}}
    add_measures(path, [{'epoch': 1, 'modules': [evil], 'measures': measures}])
    html = make_page(
        read_runs([f'{path}={evil}', f'{tmp_path}/two']), title=evil
    )
    Page(html)
    assert '<b onload' not in html
    # The script of the page, and one that a figure has.
    assert html.count('<script') == html.count('</script>')
    names = [
        line['name']
        for text in re.findall(r'/json">(.*?)</script>', html)
        for line in json.loads(text)['lines']
    ]
    assert evil in names


def add_measures(path: Path, entries: list | None = None, version=1) -> None:
    def entry(epoch):
        base = [10.0 * epoch, 20.0 * epoch, None]
        measures = {
            'probe': {'accuracy': base},
            'nhsic': {
                'x': [0.9, 0.5, 0.25],
                'x_sem': [0.01, 0.02, 0.03],
                'x_shuffled': [0.1, 0.125, 0.1],
            },
            'cka': {'matrix': [[1, 0.5, 0.2], [0.5, 1, 0.4], [0.2, 0.4, 1]]},
            'unheard of': {'thing': [epoch, epoch + 1, epoch + 2]},
        }
        return {
            'checkpoint': f'epoch_{epoch}.pth',
            'epoch': epoch,
            'iter': 4 * epoch,
            'modules': ['module 1', 'module 2', 'module 3'],
            'measures': measures,
        }

    entries = [entry(2), entry(1)] if entries is None else entries
    content = {'version': version, 'entries': entries}
    (path / 'measures.json').write_text(json.dumps(content))


def test_measures_by_depth_and_time(local, plain):
    add_measures(local)
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    title = 'probe: accuracy, by depth (epoch 2)'
    assert curves(html, title)['dgl']['y'] == [20, 40, None]
    assert 'e2e' not in curves(html, title)
    time = curves(html, 'probe: accuracy of each module')
    assert time['module 2']['x'] == [1, 2]
    assert time['module 2']['y'] == [20, 40]
    assert curves(html, 'unheard of: thing, by depth (epoch 2)')['dgl'][
        'y'
    ] == [2, 3, 4]


def test_controls_and_errors_stand_beside_their_measure(local):
    add_measures(local)
    html = make_page([read_run(local)])
    title = 'nhsic: x, by depth (epoch 2)'
    found = curves(html, title)
    assert found['dgl_k3']['y'] == [0.9, 0.5, 0.25]
    assert found['dgl_k3, shuffled']['y'] == [0.1, 0.125, 0.1]
    errors = re.search(r'class="error" d="([^"]*)"', figure(html, title))[1]
    assert errors.count('M') == 3
    assert not re.search(r'<h3>nhsic: x_', html)


def test_matrices_are_heat_maps(local):
    add_measures(local)
    html = make_page([read_run(local)])
    shares = re.findall(r'class="cell" style="--t:(\d+)%"', html)
    assert list(map(int, shares)) == [100, 50, 20, 50, 100, 40, 20, 40, 100]
    assert cells(html, 'cka: matrix')[1:][1] == ['module 2', '0.5', '1', '0.4']


def test_values_that_are_no_lists_are_told(local):
    values = {'list': [1.0, None], 'one': 2.0, 'words': ['a']}
    values['ragged'] = [[1, 2], [3]]
    entry = {'epoch': 1, 'modules': ['a', 'b'], 'measures': {'m': values}}
    add_measures(local, [entry])
    html = make_page([read_run(local)])
    assert curves(html, 'm: list, by depth (epoch 1)')['dgl_k3']['y'][0] == 1
    assert 'm.one, m.words, m.ragged is left out' in html


@pytest.mark.parametrize(
    ('version', 'entries'), [(2, []), (1, [{'epoch': 1}]), (1, None)]
)
def test_broken_measures_are_told(local, version, entries):
    add_measures(local, entries, version)
    if entries is None:
        (local / 'measures.json').write_text('{')
    html = make_page([read_run(local)])
    assert 'measures.json cannot be read' in html
    assert '>Measurements<' not in html


def add_picture(path: Path, name: str, width: int) -> Path:
    folder = next(path.glob('2*')) / 'vis_data' / 'vis_image'
    folder.mkdir(exist_ok=True)
    image = np.zeros((20, width, 3), np.uint8)
    image[:, : width // 2] = (10, 200, 90)
    cv2.imwrite(str(folder / name), image)
    return folder / name


def test_pictures_are_the_newest_and_bounded(local):
    add_picture(local, 'local_modules_9.png', 30)
    newest = add_picture(local, 'local_modules_10.png', 2 * MAX_WIDTH)
    other = add_picture(local, 'val_img_8.png', 30)
    run = read_run(local)
    assert newest_pictures(run) == [newest, other]
    html = make_page([run], pictures=1)
    (uri,) = re.findall(r'<img src="data:image/png;base64,([^"]*)"', html)
    data = np.frombuffer(base64.b64decode(uri), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image.shape == (10, MAX_WIDTH, 3)
    assert image[5, 5].tolist() == [10, 200, 90]
    assert 'alt="dgl_k3: local_modules, step 10"' in html
    assert 'Left out: 2 of 3 of dgl_k3.' in html
    assert '<img' not in make_page([run], pictures=0)


def test_what_is_no_picture_is_told(local):
    add_picture(local, 'a_1.png', 30).write_text('no picture')
    html = make_page([read_run(local)])
    assert 'a_1.png is no picture' in html and '<img' not in html


def test_short_names_keep_what_tells_apart():
    names = [Path(p) for p in ('x/e2e_resnet32', 'x/dgl_resnet32_k4')]
    assert short_names(names) == ['e2e', 'dgl k4']
    names = [Path(p) for p in ('w/infopro/shapes', 'w/dgl/shapes')]
    assert short_names(names) == ['infopro', 'dgl']
    assert short_names([Path('w/dgl/shapes')]) == ['shapes']
    names = [Path(p) for p in ('w/resnet', 'w/resnet_long')]
    assert short_names(names) == ['resnet', 'resnet_long']


def test_config_that_cannot_be_read(tmp_path):
    write_part(tmp_path / 'run', local_lines(), cfg='1 +')
    run = read_run(tmp_path / 'run')
    assert facts_of(run)['Modules K'] == '3'  # counted in the log
    assert 'config.py cannot be read (SyntaxError)' in make_page([run])


def tool():
    path = ROOT / 'tools' / 'analysis_tools' / 'compare_modules.py'
    spec = importlib.util.spec_from_file_location('compare_modules', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tool_writes_the_page(local, plain, tmp_path, capsys):
    out = tmp_path / 'page.html'
    argv = [f'{local}=one', f'{plain}=two', '--out', str(out), '--title=T']
    tool().main(argv)
    html = out.read_text(encoding='utf-8')
    assert html == make_page(read_runs([f'{local}=one', f'{plain}=two']), 'T')
    assert '<h1>T</h1>' in html
    assert f'written: {out}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('argv', 'words'),
    [
        (['{tmp}/nowhere'], 'there is no folder'),
        (['{tmp}/dgl_k3/dgl_shapes.py'], 'is a file: give the work dir'),
        (['{tmp}'], 'there are runs below it: {tmp}/dgl_k3'),
        (['{tmp}/dgl_k3/20260101_100000'], 'write {tmp}/dgl_k3'),
        (['{tmp}/empty'], 'holds no numbers yet'),
        (['{tmp}/untold'], 'LocalVisBackend'),
        (['{tmp}/dgl_k3=a', '{tmp}/dgl_k3=a'], "2 runs are called 'a'"),
        (['{tmp}/dgl_k3', '--out={tmp}/no/page.html'], 'there is no folder'),
        (['{tmp}/dgl_k3', '--pictures=-1'], 'no number of pictures'),
    ],
)
def test_tool_says_what_is_wrong(argv, words, local, tmp_path, capsys):
    write_part(tmp_path / 'empty', [])
    (tmp_path / 'untold' / '20260101_100000' / 'vis_data').mkdir(parents=True)
    with pytest.raises(SystemExit) as info:
        tool().main([text.format(tmp=tmp_path) for text in argv])
    assert info.value.code == 2
    message = ' '.join(capsys.readouterr().err.split())
    assert words.format(tmp=tmp_path) in message


@pytest.mark.slow
def test_a_real_training_that_is_resumed(tmp_path):
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
    (first,) = tmp_path.glob('2*')
    first.rename(first.with_name('20200101_000000'))  # a second has passed
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
    Page(html)
    for title in ('loss_recon of module 1', 'accuracy/top1 of each module'):
        assert figure(html, title)
    assert html.count('<img src="data:image/') == 1
