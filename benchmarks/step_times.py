"""Time and weigh the training steps of several configs, side by side.

    python benchmarks/step_times.py configs/e2e/lw-resnet18_cifar10.py \\
        configs/layerwise/lw-resnet18_cifar10_{ce,sim}.py \\
        --settings benchmarks/settings/cifar10_layerwise.py

What compare.py trains, without data: images are noise. All run in one process,
in rounds: each config a few steps, then the next one, the other way round in
every second round. Ratios are taken to the first config within a round; the
table (Markdown) has their median and quartiles. Memory is what torch's
allocator reports on a GPU; without one it is counted storage by storage.
Modules that train one after another take a step of each, the others frozen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from compare import merged
from methods import Method, spread, unit_of
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmlocal.models.cut_points import Split
from mmlocal.planner import StepReport, TrainingSetting
from mmlocal.planner.real_steps import RealSteps


class Entry:
    """A config that is timed.

    Args:
        path (Path): Of the config.
        settings (Path, optional): What is merged into it.
        where (str): Device.
    """

    def __init__(self, path: Path, settings: Path | None, where: str):
        with TemporaryDirectory() as folder:
            leaf = path
            if settings is not None:
                leaf = merged(path, settings, Path(folder))
            cfg = Config.fromfile(leaf)
        self.steps = RealSteps(TrainingSetting(cfg, device=where), where)
        self.size = self.steps.setting.batch_size
        self.split = self.steps.own_split or Split([], [None])
        self.in_turn = 'epochs' in cfg.train_cfg
        name = f'{path.parent.name}/{path.stem}'
        self.method = Method(name, self.measure())

    def measure(self) -> StepReport:
        """Count the storages of a step, or of the largest one."""
        if not self.in_turn:
            return self.steps.measure(self.split)
        reports = [
            self.steps.measure_module(self.split, index)
            for index in range(len(self.split.boundaries) + 1)
        ]
        return max(reports, key=lambda report: report.peak)

    def run(self, steps: int) -> None:
        """A round."""
        time = self.steps.time_modules if self.in_turn else self.steps.time
        timing = time(self.split, self.size, steps)
        self.method.rounds.append(timing.seconds)
        peak = timing.allocated or self.method.plan.peak
        self.method.memory['peak'] = peak


def main() -> None:
    """Run the benchmark."""
    args = parse_args()
    MMLogger.get_instance('mmengine', log_level='ERROR')
    where = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.manual_seed(args.seed)
    entries = [Entry(path, args.settings, where) for path in args.configs]
    for index in range(args.rounds):
        for entry in entries[:: -1 if index % 2 else 1]:
            entry.run(args.steps)
    print('\n'.join(table([entry.method for entry in entries])))


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('configs', nargs='+', type=Path)
    parser.add_argument(
        '--settings', type=Path, help='a config that is merged into each'
    )
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=5, help='timed a round')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def table(methods: list[Method]) -> list[str]:
    """Markdown, one row a config."""
    base = methods[0]
    unit, divisor = unit_of(base)
    lines = [
        f'| config | ms a step | of the first | {unit} | of the first |',
        '| --- ' * 5 + '|',
    ]
    for method in methods:
        peak = method.memory['peak']
        cells = [
            method.name,
            f'{1000 * median(method.seconds):.0f}',
            spread(method.ratios(base), '.2f'),
            f'{peak / divisor:.1f}',
            f'{peak / base.memory["peak"]:.2f}',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return lines


if __name__ == '__main__':
    main()
