"""The page as a whole, and the tool that writes it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from mmlocal.analysis.page import make_page, read_runs

ROOT = Path(__file__).parents[3]


def test_page_is_whole_and_alone(pages, local, plain):
    pages.add_measures(local)
    pages.add_picture(local, 'local_modules_8.png', 40)
    html = make_page(read_runs([str(local), str(plain)]))
    page = pages.Page(html)
    assert len(set(page.ids)) == len(page.ids)
    assert all(a.startswith(('#', 'data:')) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a[0] == '#'} <= {*page.ids}
    assert 'link' not in page.tags and 'iframe' not in page.tags
    assert not re.search(r'https?://|@import|url\(', html)
    assert page.tags.count('svg') > page.tags.count('figure') > 8


def test_names_are_escaped(pages, tmp_path):
    evil = '<b onload="x">&</script>'
    lines = [pages.train_line(2, **{'loss': 1.0, f'loss{evil}': 2.0})]
    path = tmp_path / 'run'
    pages.write_part(
        path, lines, cfg=pages.config(extra=f'work_dir = {evil!r}')
    )
    pages.write_part(
        tmp_path / 'two',
        lines,
        cfg=pages.config(extra=f'load_from = {evil!r}'),
    )
    measures = {'m': {evil: [1.0, 2.0]}}
    pages.add_measures(
        path, [{'epoch': 1, 'modules': [evil], 'measures': measures}]
    )
    html = make_page(
        read_runs([f'{path}={evil}', f'{tmp_path}/two']), title=evil
    )
    pages.Page(html)
    assert '<b onload' not in html
    # The script of the page, and one that a figure has.
    assert html.count('<script') == html.count('</script>')
    names = [
        line['name']
        for text in re.findall(r'/json">(.*?)</script>', html)
        for line in json.loads(text)['lines']
    ]
    assert evil in names


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
def test_tool_says_what_is_wrong(pages, argv, words, local, tmp_path, capsys):
    pages.write_part(tmp_path / 'empty', [])
    (tmp_path / 'untold' / '20260101_100000' / 'vis_data').mkdir(parents=True)
    with pytest.raises(SystemExit) as info:
        tool().main([text.format(tmp=tmp_path) for text in argv])
    assert info.value.code == 2
    message = ' '.join(capsys.readouterr().err.split())
    assert words.format(tmp=tmp_path) in message
