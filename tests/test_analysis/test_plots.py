"""Figures of measured values."""

import pytest
from matplotlib.figure import Figure

from mmlocal.analysis.plots import (
    draw_by_depth,
    draw_information_plane,
    draw_table,
    plot_measures,
)


def entry(epoch, **measures):
    modules = ['module 1', 'module 2']
    place = {'checkpoint': f'epoch_{epoch}.pth', 'epoch': epoch}
    return {**place, 'iter': epoch, 'modules': modules, 'measures': measures}


@pytest.fixture
def entries():
    nhsic = {
        'x': [10.0, 9.0],
        'x_sem': [0.1, None],
        'x_shuffled': [9.5, 8.75],
        'y': [3.0, 5.0],
        'y_shuffled': [1.0, 2.0],
    }
    probe = {'accuracy': [40.0, None]}
    table = {'modules': [[1.0, 0.25], [0.25, None]]}
    return [
        entry(0, nhsic=nhsic),
        entry(3, nhsic=nhsic, probe=probe, cka=table),
    ]


@pytest.fixture
def axes():
    return Figure().add_subplot()


def test_a_value_is_drawn_by_depth_beside_its_control(axes, entries):
    draw_by_depth(axes, entries, 'nhsic', 'x')
    lines = [line.get_ydata().tolist() for line in axes.lines]
    assert [10.0, 9.0] in lines
    assert [9.5, 8.75] in lines
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['epoch 0', 'epoch 3']
    assert axes.get_title() == 'dashed: shuffled pairing'


def test_networks_have_their_names_and_marks(axes, entries):
    first, last = ({**entries[1], 'label': name} for name in ('e2e', 'local'))
    draw_by_depth(axes, [first, last], 'probe', 'accuracy')
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['e2e, epoch 3', 'local, epoch 3']
    marks = {line.get_marker() for line in axes.lines} - {'None', '_', '|'}
    assert len(marks) >= 2


def test_the_plane_has_a_path_a_module_above_the_control(axes, entries):
    draw_information_plane(axes, entries)
    paths = [line.get_xydata().tolist() for line in axes.lines]
    assert paths == [[[0.5, 2.0]] * 2, [[0.25, 3.0]] * 2]
    assert [text.get_text() for text in axes.texts] == ['1', '2']


def test_a_table_shows_its_numbers(axes, entries):
    draw_table(axes, entries[1], 'cka', 'modules')
    texts = [text.get_text() for text in axes.texts]
    assert texts == ['1.00', '0.25', '0.25', 'nan']


def test_everything_is_in_one_file(entries, tmp_path):
    plot_measures(entries, tmp_path / 'all.png')
    assert (tmp_path / 'all.png').stat().st_size > 10_000


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='no measured values'):
        plot_measures([], tmp_path / 'none.png')
