"""Measurements of modules on the page."""

from __future__ import annotations

import re

import pytest

from mmlocal.analysis.page import make_page, read_run, read_runs


def test_measures_by_depth_and_time(pages, local, plain):
    pages.add_measures(local)
    html = make_page(read_runs([f'{local}=dgl', f'{plain}=e2e']))
    title = 'probe: accuracy, by depth (epoch 2)'
    assert pages.curves(html, title)['dgl']['y'] == [20, 40, None]
    assert 'e2e' not in pages.curves(html, title)
    time = pages.curves(html, 'probe: accuracy of each module')
    assert time['module 2']['x'] == [1, 2]
    assert time['module 2']['y'] == [20, 40]
    assert pages.curves(html, 'unheard of: thing, by depth (epoch 2)')['dgl'][
        'y'
    ] == [2, 3, 4]


def test_controls_and_errors_stand_beside_their_measure(pages, local):
    pages.add_measures(local)
    html = make_page([read_run(local)])
    title = 'nhsic: x, by depth (epoch 2)'
    found = pages.curves(html, title)
    assert found['dgl_k3']['y'] == [0.9, 0.5, 0.25]
    assert found['dgl_k3, shuffled']['y'] == [0.1, 0.125, 0.1]
    errors = re.search(
        r'class="error" d="([^"]*)"', pages.figure(html, title)
    )[1]
    assert errors.count('M') == 3
    assert not re.search(r'<h3>nhsic: x_', html)


def test_matrices_are_heat_maps(pages, local):
    pages.add_measures(local)
    html = make_page([read_run(local)])
    shares = re.findall(r'class="cell" style="--t:(\d+)%"', html)
    assert list(map(int, shares)) == [100, 50, 20, 50, 100, 40, 20, 40, 100]
    assert pages.cells(html, 'cka: matrix')[1:][1] == [
        'module 2',
        '0.5',
        '1',
        '0.4',
    ]


def test_values_that_are_no_lists_are_told(pages, local):
    values = {'list': [1.0, None], 'one': 2.0, 'words': ['a']}
    values['ragged'] = [[1, 2], [3]]
    entry = {'epoch': 1, 'modules': ['a', 'b'], 'measures': {'m': values}}
    pages.add_measures(local, [entry])
    html = make_page([read_run(local)])
    assert (
        pages.curves(html, 'm: list, by depth (epoch 1)')['dgl_k3']['y'][0]
        == 1
    )
    assert 'm.one, m.words, m.ragged is left out' in html


@pytest.mark.parametrize(
    ('version', 'entries'), [(2, []), (1, [{'epoch': 1}]), (1, None)]
)
def test_broken_measures_are_told(pages, local, version, entries):
    pages.add_measures(local, entries, version)
    if entries is None:
        (local / 'measures.json').write_text('{')
    html = make_page([read_run(local)])
    assert 'measures.json cannot be read' in html
    assert '>Measurements<' not in html
