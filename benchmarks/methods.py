"""What memory_speed.py measured, as a table and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles

from pictures import Point, draw

from mmlocal.planner import StepReport, report

OWN = 'config'
SIZES = {'GiB': 2**30, 'MiB': 2**20}
NOTES = """\
In brackets: quartiles; of times over all steps, of ratios over rounds. A ratio
compares medians within a round. "off" is the prediction against the first
column of memory; "compute" is FLOPs on top of end to end.

* allocated, reserved: peaks of torch's CUDA allocator, scratch of cuDNN and
  cuBLAS included; without the context of CUDA (about half a GiB).
* counted: all storages that operators hand out, on real tensors, without an
  allocator's rounding. What a CPU kernel allocates and frees within one
  operator is not in it (convolutions do); torch's profiler shows it.
* predicted: of eager code, on fake tensors.
"""


@dataclass
class Method:
    """A row.

    Attributes:
        name (str): As in --methods.
        plan (StepReport): What is predicted.
        rounds (list[list[float]]): Seconds of the steps of each round.
        memory (dict[str, int]): Measured peaks, bytes, by how.
        failure (str): Why it stopped; empty if it did not.
    """

    name: str
    plan: StepReport
    rounds: list[list[float]] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    failure: str = ''

    @property
    def seconds(self) -> list[float]:
        """Of all steps."""
        return [second for steps in self.rounds for second in steps]

    def ratios(self, base: Method) -> list[float]:
        """Time as a multiple of another method's, round by round."""
        pairs = zip(self.rounds, base.rounds, strict=False)
        return [median(mine) / median(other) for mine, other in pairs]


def table(methods: Sequence[Method]) -> Iterator[str]:
    """Markdown, one row a method."""
    base = methods[0]
    unit, divisor = unit_of(base)
    ways = list(dict.fromkeys(way for m in methods for way in m.memory))
    columns = ['method', 'ms a step', 'of e2e', 'images/s']
    columns += [f'{way} {unit}' for way in ways]
    columns += ['of e2e', f'predicted {unit}', 'off', 'predicted compute']
    columns.append('boundaries')
    yield f'| {" | ".join(columns)} |'
    yield f'|{" --- |" * len(columns)}'
    for method in methods:
        cells = [method.name, *_speed(method, base)]
        peaks = [method.memory.get(way) for way in ways]
        cells += [f'{peak / divisor:.2f}' if peak else '-' for peak in peaks]
        share = off = '-'
        if peaks and peaks[0]:
            off = f'{method.plan.peak / peaks[0] - 1:+.1%}'
            if base.memory:
                share = f'{peaks[0] / base.memory[ways[0]]:.3f}'
        extra = method.plan.total_flops / base.plan.total_flops - 1
        cells += [share, f'{method.plan.peak / divisor:.2f}', off]
        cells += [f'{extra:+.1%}', ' '.join(method.plan.split.boundaries)]
        yield f'| {" | ".join(cells)} |'


def _speed(method: Method, base: Method) -> list[str]:
    if not method.rounds:
        return [method.failure or '-', '-', '-']
    ratio = '1' if method is base else '-'
    if base.rounds and method is not base:
        ratio = spread(method.ratios(base), '.3f')
    times = [1000 * second for second in method.seconds]
    images = method.plan.batch_size / median(method.seconds)
    return [spread(times, '.1f'), ratio, f'{images:.1f}']


def spread(values: Sequence[float], style: str) -> str:
    """Median and, in brackets, quartiles of values in this format."""
    middle = format(median(values), style)
    if len(values) < 2:
        return middle
    low, _, high = quantiles(values, n=4, method='inclusive')
    return f'{middle} ({low:{style}} .. {high:{style}})'


def write(out: Path, methods: Sequence[Method], head: str) -> None:
    """Table, picture and raw figures."""
    out.mkdir(parents=True, exist_ok=True)
    text = '\n'.join([head, '', *table(methods), '', NOTES])
    (out / 'memory_speed.md').write_text(text)
    content = [
        {**asdict(method), 'plan': report.to_dict(method.plan)}
        for method in methods
    ]
    report.write_json(out / 'memory_speed.json', {'methods': content})
    draw(out / 'memory_speed.png', points(methods), *axis_labels(methods))


def points(methods: Sequence[Method]) -> Iterator[Point]:
    """What ran, as points of the picture."""
    base = methods[0]
    for method in methods:
        if not (method.rounds and method.memory):
            continue
        times = method.ratios(base) if base.rounds else method.seconds
        count = len(method.plan.split.boundaries) + 1
        name = 'end to end' if count == 1 else f'K={count}'
        mode = method.plan.split.checkpointing[0]
        if method.name == OWN:
            name += ', config'
        yield Point(
            name,
            mode or '',
            median(times),
            next(iter(method.memory.values())) / unit_of(base)[1],
            method.plan.peak / unit_of(base)[1],
        )


def axis_labels(methods: Sequence[Method]) -> tuple[str, str]:
    """Of time and memory."""
    base = methods[0]
    ways = [f' {way}' for method in methods for way in method.memory]
    return (
        'time of a step / end to end' if base.rounds else 's a step',
        f'peak memory, {unit_of(base)[0]}{"".join(ways[:1])}',
    )


def unit_of(base: Method) -> tuple[str, int]:
    """A unit in which a peak is a number of a few digits."""
    name = 'GiB' if base.plan.peak >= SIZES['GiB'] else 'MiB'
    return name, SIZES[name]
