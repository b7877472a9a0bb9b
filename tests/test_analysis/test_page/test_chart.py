"""Axes, curves and SVG."""

import json
import math
import re
from html import unescape

import pytest

from mmlocal.analysis.page.chart import CHAR, Chart
from mmlocal.analysis.page.curves import (
    DRAWN_POINTS,
    LINE_HEIGHT,
    Line,
    smoothed,
    spread,
    thinned,
)
from mmlocal.analysis.page.pictograms import heat_map
from mmlocal.analysis.page.scales import (
    Scale,
    column,
    linear_ticks,
    log_ticks,
    number,
    padded,
    tick_labels,
)

NAN = float('nan')
RANGES = [(0, 1), (0.31, 0.34), (-3, 8), (1e-6, 3e-6), (0, 40_000), (9, 9.7)]


@pytest.mark.parametrize(('low', 'high'), RANGES)
@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_linear_ticks_are_round_and_inside(low, high, count):
    ticks = linear_ticks(low, high, count)
    assert len(ticks) <= count
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    if count >= 5:
        assert len(ticks) >= 2
    steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
    assert steps == pytest.approx(steps[:1] * len(steps))
    thousands = {'k': 1000.0, '': 1.0}
    labels = [
        float(text.rstrip('k')) * thousands['k' if 'k' in text else '']
        for text in tick_labels(ticks)
    ]
    assert labels == pytest.approx(ticks)


@pytest.mark.parametrize(
    ('low', 'high'), [(0.5, 3), (1e-4, 1), (0.91, 0.93), (1e-9, 1e6)]
)
def test_log_ticks_are_inside(low, high):
    ticks = log_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)


def test_scale_is_linear_or_of_equal_ratios():
    linear, log = Scale(2, 6, 100, 20), Scale(1, 100, 0, 80, log=True)
    assert [linear(2), linear(4), linear(6)] == [100, 60, 20]
    assert log(10) == pytest.approx(40)
    assert log(100) - log(50) == pytest.approx(log(2) - log(1))


def test_padding_leaves_zero_where_nothing_is_negative():
    assert padded([0.01, 10])[0] == 0
    assert padded([-1, 1]) == (-1.1, 1.1)
    low, high = padded([3, 3])
    assert low < 3 < high


def test_smoothing_is_the_weighted_mean_of_the_past():
    ys = [3.0, None, 5.0, NAN, 1.0]
    found = smoothed(ys, 0.5)
    assert found[1] is None and found[3] is None
    weights = [0.25, 0.5, 1.0]
    expected = sum(
        w * y for w, y in zip(weights, [3, 5, 1], strict=True)
    ) / sum(weights)
    assert found[0] == 3
    assert found[4] == pytest.approx(expected)


def test_thinned_curves_keep_extremes_and_invent_nothing():
    xs = list(range(5000))
    ys = [math.sin(x) for x in xs]
    ys[1234], ys[4321], ys[17] = 9.0, -7.0, NAN
    new_xs, new_ys = thinned(xs, ys)
    assert len(new_xs) <= DRAWN_POINTS + 2
    assert new_xs == sorted(new_xs) and new_xs[-1] == 4999
    assert all(ys[x] == y for x, y in zip(new_xs, new_ys, strict=True))
    assert {9.0, -7.0} <= set(new_ys)


def test_labels_do_not_cover_each_other():
    places = spread([50, 51, 52, 200, 201], 12, 204)
    gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
    assert min(gaps) >= LINE_HEIGHT
    assert places[0] >= 12 and places[-1] <= 204
    assert spread([20, 80], 12, 204) == [20, 80]


def test_numbers():
    assert [number(v) for v in (None, 3.0, 0.123456, 1e-5, NAN)] == [
        '',
        '3',
        '0.1235',
        '1e-5',
        'NaN',
    ]
    assert column([43.8, 9.25, None]) == ['43.80', '9.25', '']
    assert column([0.1, 1e-6]) == ['0.1', '1e-6']


def chart(ys, **options) -> Chart:
    line = Line('one', list(range(1, len(ys) + 1)), ys, 'run0 c0', 0, 'one')
    return Chart([line], 'about', 'epoch', **options)


def drawn(svg: str, variant: str) -> list[list[tuple[float, float]]]:
    """The pieces of the curve, in pixels."""
    group = svg.split(f'<g class="{variant}')[1]
    path = re.search(r'<path class="line[^"]*" d="([^"]*)"', group)[1]
    return [
        [tuple(map(float, step.split())) for step in piece.split('L')]
        for piece in path.split('M')[1:]
    ]


def test_curve_stands_where_its_values_are():
    found = chart([1.0, 3.0, 2.0], x_range=(0, 4))
    (piece,) = drawn(found.svg(), 'lin')
    data = found._data()
    x_low, x_high, left, right = data['x']
    y_low, y_high, bottom, top = data['y']['lin']
    for (px, py), x, y in zip(piece, (1, 2, 3), (1, 3, 2), strict=True):
        share = (px - left) / (right - left)
        assert x_low + share * (x_high - x_low) == pytest.approx(x, abs=0.02)
        share = (py - bottom) / (top - bottom)
        assert y_low + share * (y_high - y_low) == pytest.approx(y, abs=0.02)
    assert data['lines'][0]['y'] == [1, 3, 2]


def test_missing_values_interrupt_and_lone_ones_are_marked():
    ys = [1.0, 2.0, NAN, 4.0, None, *[5.0] * 40]
    svg = chart(ys).svg()
    assert [len(piece) for piece in drawn(svg, 'lin')] == [2, 1, 40]
    (marks,) = re.findall(r'class="mark" d="([^"]*)"', svg)
    assert marks.count('M') == 1  # the rest is seen as a curve


def test_logarithmic_axis_leaves_out_what_it_cannot_show():
    svg = chart([10.0, 0.0, 1.0, 0.1], log=True).svg()
    assert [len(piece) for piece in drawn(svg, 'log')] == [1, 2]
    assert [len(piece) for piece in drawn(svg, 'lin')] == [4]
    assert '<g class="log' not in chart([-1.0, -2.0], log=True).svg()


@pytest.mark.parametrize('end', [1, 3, 25, 160, 39_000, 450_000])
@pytest.mark.parametrize('small', [True, False])
def test_ticks_of_x_stand_beside_each_other(end, small):
    svg = chart([1.0, 2.0], x_range=(0, end), small=small).svg()
    axis = svg.split('<g class="lin')[0]
    ticks = re.findall(r'x="([\d.]+)"[^>]*>([^<]+)</text>', axis)[:-1]
    assert len(ticks) >= 2
    places = [(float(x), len(text) * CHAR) for x, text in ticks]
    for (a, wide_a), (b, wide_b) in zip(places, places[1:], strict=False):
        assert b - a > (wide_a + wide_b) / 2 + 4


def test_names_of_ticks_are_thinned_from_the_end():
    names = {float(i): f'module {i}' for i in range(1, 17)}
    line = Line('one', list(names), [1.0] * 16, 'c0')
    svg = Chart([line], 'about', 'depth', names).svg()
    shown = re.findall(r'>(module \d+)<', svg)
    assert shown[-1] == 'module 16' and len(shown) < 16


def test_texts_are_escaped():
    line = Line('</script><b>', [1, 2], [1.0, 2.0], 'c0', label='<i>')
    svg = Chart([line], 'a "b" <c>', '<x>').svg()
    assert not re.search(r'<(?:b|i|c|x)>', svg)
    assert svg.count('</script>') == 1
    content = re.search(r'json">(.*)</script>', svg)[1]
    assert json.loads(content)['lines'][0]['name'] == '</script><b>'
    assert 'a "b" <c>' in unescape(svg)


def test_heat_map_shows_values_and_gaps():
    svg = heat_map([[1.0, 0.25], [None, 0.0]], (0, 1), 'about')
    shares = re.findall(r'class="cell" style="--t:(\d+)%"', svg)
    assert shares == ['100', '25', '0']
    assert svg.count('cell missing') == 1
    assert 'row 1, column 2: 0.25' in svg
    assert 'row 2, column 1: none' in svg
