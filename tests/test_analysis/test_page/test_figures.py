"""Figures show what was logged."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest

from mmlocal.analysis.page import make_page, read_run, read_runs
from mmlocal.analysis.page.facts import progress
from mmlocal.analysis.page.pictures import MAX_WIDTH, newest_pictures

NAN = float('nan')


def test_values_are_those_of_the_log(pages, local, plain):
    html = make_page(read_runs([f'{plain}=e2e', f'{local}=dgl']))
    loss = pages.curves(html, 'Loss of the model’s own heads')
    assert loss['dgl']['x'] == [0.5, 1, 1.5, 2]
    assert loss['dgl']['y'] == pytest.approx([1, 0.5, 1 / 3, 0.25], rel=1e-5)
    assert loss['e2e']['y'] == pytest.approx([0.5, 0.25, 1 / 6, 0.125], 1e-5)
    top1 = pages.curves(html, 'accuracy/top1')
    assert (top1['dgl']['x'], top1['dgl']['y']) == ([1, 2], [31, 32])
    assert (top1['e2e']['x'], top1['e2e']['y']) == ([2], [50.5])
    assert pages.cells(html, 'accuracy/top1') == [
        ['epoch', 'e2e', 'dgl'],
        ['1', '', '31'],
        ['2', '50.50', '32'],
    ]


def test_modules_are_counted_from_one(pages, local):
    html = make_page([read_run(local)])
    title = 'loss_task by module'
    assert re.findall('<h4>(.*?)</h4>', pages.figure(html, title)) == [
        'module 1',
        'module 2',
    ]
    assert pages.curves(html, title, 0)['dgl_k3']['y'][0] == 1.5
    assert pages.curves(html, title, 1)['dgl_k3']['y'][0] == 2
    assert pages.curves(html, 'acc of module 1')['dgl_k3']['y'] == [
        20,
        40,
        60,
        80,
    ]
    modules = pages.curves(html, 'accuracy/top1 of each module')
    assert {name: line['y'] for name, line in modules.items()} == {
        'module 1': [11, 12],
        'module 2': [21, 22],
        'module 3': [31, 32],
    }
    assert 'module 0' not in html and 'local_0' not in html


def test_depth_is_that_of_the_last_validation(pages, local, plain):
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    title = 'accuracy/top1 by depth, at the last validation'
    found = pages.curves(html, title)
    assert found['dgl']['y'] == [12, 22, 32]
    assert found['dgl']['x'] == [1, 2, 3]
    assert found['dgl, ensemble']['y'] == [None, 27, None]
    assert found['e2e']['y'] == [50.5] * 3
    assert pages.cells(html, title)[1] == ['dgl', '2', '12', '22', '32']


def test_runs_in_other_numbers_of_modules_share_an_axis(
    pages, local, tmp_path
):
    lines = [
        {'module_1/accuracy/top1': 5.0, 'module_2/accuracy/top1': 6.0}
        | {'accuracy/top1': 6.0, 'step': 1}
    ]
    backbone = pages.LOCAL_BACKBONE.replace('num_modules=3', 'num_modules=2')
    log = pages.text_log().replace(", 'layer3.0'", '')
    pages.write_part(
        tmp_path / 'two', lines, cfg=pages.config(backbone), log=log
    )
    html = make_page(read_runs([str(local), f'{tmp_path}/two']))
    found = pages.curves(
        html, 'accuracy/top1 by depth, at the last validation'
    )
    assert found['two']['x'] == [0.5, 1]
    assert found['dgl k3']['x'] == pytest.approx([1 / 3, 2 / 3, 1], rel=1e-5)


def test_time_and_memory_as_medians_and_ratios(pages, local, plain):
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    assert pages.cells(html, 'Time of an iteration')[1:] == [
        ['dgl', '0.5000', '0.5000', '0.5000', '1.00'],
        ['e2e', '0.2500', '0.2500', '0.2500', '0.50'],
    ]
    assert pages.cells(html, 'Peak memory of a GPU')[1:] == [
        ['e2e', '2', '2', '2', '1.00']
    ]


def test_iterations_where_a_run_counts_no_epochs(pages, local, tmp_path):
    cfg = pages.config().replace(
        'by_epoch=True, max_epochs=2', 'max_iters=100'
    )
    cfg += 'default_hooks["logger"]["log_metric_by_epoch"] = False\n'
    lines = [pages.train_line(50, loss=1.0), {'mIoU': 40.0, 'step': 60}]
    log = pages.text_log().replace('Epoch(train)', 'Iter(train)')
    pages.write_part(tmp_path / 'seg', lines, cfg=cfg, log=log)
    runs = read_runs([str(local), f'{tmp_path}/seg'])
    html = make_page(runs)
    assert pages.curves(html, 'mIoU')['seg']['x'] == [60]
    assert pages.curves(html, 'accuracy/top1')['dgl k3']['x'] == [4, 8]
    assert 'Not in the log of dgl k3.' in pages.figure(html, 'mIoU')
    assert progress(runs[1]) == ('60 of 100 iterations, unfinished', False)


def test_missing_numbers_interrupt_and_are_told(pages, tmp_path):
    losses = [1.0, NAN, 0.5, float('inf')]
    lines = [pages.train_line(2 * i + 2, loss=v) for i, v in enumerate(losses)]
    folder = pages.write_part(tmp_path / 'run', lines)
    with open(folder / 'vis_data' / 'scalars.json', 'a') as file:
        file.write('{"loss": 0.')  # killed while it wrote
    run = read_run(tmp_path / 'run')
    html = make_page([run])
    y = pages.curves(html, 'Loss of the model’s own heads')['run']['y']
    assert y == [1, None, 0.5, None]
    assert 'NaN or infinite in 2 of 4 lines, first at iteration 4' in html
    assert 'scalars.json: line 5 of 5 cannot be read' in html
    assert ['1', 'NaN'] in pages.cells(html, 'Loss of the model’s own heads')


def test_nothing_but_missing_numbers(pages, tmp_path):
    pages.write_part(tmp_path / 'run', [pages.train_line(2, loss=NAN)])
    html = make_page([read_run(tmp_path / 'run')])
    assert 'No finite value' in pages.figure(
        html, 'Loss of the model’s own heads'
    )


def test_pictures_are_the_newest_and_bounded(pages, local):
    pages.add_picture(local, 'local_modules_9.png', 30)
    newest = pages.add_picture(local, 'local_modules_10.png', 2 * MAX_WIDTH)
    other = pages.add_picture(local, 'val_img_8.png', 30)
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


def test_what_is_no_picture_is_told(pages, local):
    pages.add_picture(local, 'a_1.png', 30).write_text('no picture')
    html = make_page([read_run(local)])
    assert 'a_1.png is no picture' in html and '<img' not in html
