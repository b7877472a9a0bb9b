"""Train several configs under one schedule and print them side by side.

    python benchmarks/compare.py configs/e2e/resnet32_cifar10.py \\
        configs/infopro/resnet32_cifar10_k2_contrast.py \\
        --settings benchmarks/settings/cifar10_short.py \\
        --metric accuracy/top1

Each config is trained by tools/train.py in a process of its own, one after
the other, with the same settings on top and the same seeds. A run that is
complete in the work dir is not repeated and one that is not goes on from its
last checkpoint, so that a comparison can be cut off. The
table (Markdown) shows the last value of each metric, its mean and range over
seeds, and the median time of an iteration; with --begin also the first value,
where something is measured before training.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the comparison."""
    args = parse_args()
    rows = []
    for config in args.configs:
        runs = []
        for seed in args.seeds:
            name = f'{config.parent.name}_{config.stem}_seed{seed}'
            work_dir = args.work_dir / name
            if not (work_dir / 'done').exists():
                train(config, work_dir, seed, args)
            runs.append(read(work_dir, args.metric))
            rows = [row for row in rows if row[0] != config]
            rows.append((config, runs))
            print(table(rows, args.metric, args.begin), flush=True)


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument(
        '--metric', nargs='+', required=True, help='as in the log'
    )
    parser.add_argument(
        '--begin', action='store_true', help='show the first values, too'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/compare')
    )
    parser.add_argument(
        '--settings',
        type=Path,
        required=True,
        help='a config that is merged into each of the others',
    )
    return parser.parse_args()


def train(
    config: Path, work_dir: Path, seed: int, args: argparse.Namespace
) -> None:
    """Run tools/train.py; its output goes to the work dir."""
    leaf = merged(config, args.settings, work_dir)
    command = [sys.executable, ROOT / 'tools/train.py', leaf]
    command += ['--work-dir', work_dir, '--resume']
    command += ['--cfg-options', f'randomness.seed={seed}']
    with open(work_dir / 'output.txt', 'w') as output:
        status = subprocess.call(
            list(map(str, command)), stdout=output, stderr=subprocess.STDOUT
        )
    if status:
        sys.exit(f'{config} failed: see {work_dir / "output.txt"}')
    (work_dir / 'done').touch()


def merged(config: Path, settings: Path, work_dir: Path) -> Path:
    """Write a config with the settings on top."""
    work_dir.mkdir(parents=True, exist_ok=True)
    leaf = work_dir / 'config.py'
    leaf.write_text(
        f'_base_ = [{str(config.resolve())!r}]\n{settings.read_text()}'
    )
    return leaf


def read(work_dir: Path, metrics: list[str]) -> dict[str, list[float]]:
    """All values of the metrics and times of iterations, in their order."""
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [
        json.loads(line)
        for log in logs
        for line in log.read_text().split('\n')
        if line
    ]
    found = {
        metric: [line[metric] for line in lines if metric in line]
        for metric in metrics
    }
    for metric, values in found.items():
        if not values:
            known = sorted({key for line in lines for key in line})
            sys.exit(f'{work_dir} has no {metric!r}, but {known}')
    found['time'] = [line['time'] for line in lines if 'lr' in line]
    return found


def table(
    rows: list[tuple[Path, list[dict[str, list[float]]]]],
    metrics: list[str],
    begin: bool = False,
) -> str:
    """A Markdown table, one row a config."""
    names = ' | '.join(f'{metric} | range' for metric in metrics)
    lines = [f'| config | {names} | s/iter |']
    lines.append('|---' * (2 * len(metrics) + 2) + '|')
    for config, runs in rows:
        name = f'{config.parent.name}/{config.name}'
        time = median(value for run in runs for value in run['time'])
        places = {name: -1}
        if begin:
            places = {f'{name}, before': 0, name: -1}
        for label, place in places.items():
            cells = [label]
            for metric in metrics:
                values = [run[metric][place] for run in runs]
                cells.append(f'{mean(values):.2f}')
                cells.append(f'{min(values):.2f} .. {max(values):.2f}')
            lines.append(f'| {" | ".join(cells)} | {time:.3f} |')
    return '\n'.join([*lines, ''])


if __name__ == '__main__':
    main()
