"""Time and weigh configs, trained end to end and in modules.

    python benchmarks/memory_speed.py configs/infopro/resnet101_imagenet.py \\
        --out work_dirs/memory_speed

Rows are end to end and K = 2, 3, ... at the planner's best splits, each
without checkpointing, per block and selectively; and the config's own split
if it has one. Modules train all at once, or one at a time ("alone"), also from
features that were stored before ("cached"): then a step is one of each
module. All are timed in one process, in rounds: each method runs a few
steps, then the next one, the other way round in every second round. Ratios
are taken within a round, and the table has their median.

On a GPU memory is what torch's allocator reports. Without one it is counted
storage by storage, which is exact and slow: take a small net.
"""

from __future__ import annotations

import argparse
import gc
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from itertools import product
from pathlib import Path

import torch
from methods import OWN, Method, table, write
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmlocal.apis import cli
from mmlocal.models.cut_points import Split
from mmlocal.planner import Planner, Simulator, TrainingSetting
from mmlocal.planner.real_steps import RealSteps

MODES = {'': None, '-block': 'block', '-selective': 'selective'}
# Modules one at a time, and whether from stored features.
SCHEDULES = {'-alone': False, '-cached': True}
BASE = 'e2e'


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    args = parse_args(argv)
    MMLogger.get_instance('mmengine', log_level='ERROR')
    where = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    torch.manual_seed(args.seed)
    for path in args.config:
        # A folder each, if there are several.
        out = args.out / Path(path).stem if len(args.config) > 1 else args.out
        compare(path, args, argv, where, out)


def compare(
    path: str,
    args: argparse.Namespace,
    argv: Sequence[str] | None,
    where: str,
    out: Path,
) -> None:
    """All methods on one config."""
    cfg = Config.fromfile(path)
    if args.amp:
        cfg.optim_wrapper.dtype = args.amp
    crop = args.crop_size and tuple(args.crop_size)
    amp = True if args.amp else None
    try:
        setting = TrainingSetting(cfg, args.batch_size, crop, amp, where)
        methods = plan(setting, args.methods, args.max_modules)
    except ValueError as error:
        sys.exit(f'memory_speed.py: {error}')
    bench = Bench(setting, where, args.compile)
    for index in range(args.rounds):
        for method in methods[:: -1 if index % 2 else 1]:
            show(f'round {index + 1} of {args.rounds}, {method.name}')
            bench.run(method, args.steps)
        write(out, methods, header(path, args, setting, where, argv))
    show('')
    print('\n'.join(table(methods)))
    print(f'written: {out}')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', nargs='+', type=cli.existing_file)
    parser.add_argument(
        '--out', type=Path, required=True, help='folder of table and picture'
    )
    parser.add_argument('--batch-size', type=int, help='images a step')
    parser.add_argument(
        '--crop-size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH')
    )
    parser.add_argument(
        '--amp',
        choices=('float16', 'bfloat16'),
        help='mixed precision; by default as in the config',
    )
    parser.add_argument(
        '--compile',
        action='store_true',
        help="torch.compile the backbone's stages",
    )
    parser.add_argument(
        '--cudnn-benchmark',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='let cuDNN try which kernels are fastest',
    )
    parser.add_argument('--max-modules', type=int, default=4, help='K')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=5, help='timed a round')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--methods',
        nargs='+',
        metavar='NAME',
        help='rows, as e2e, e2e-block, k2, k3-selective, config (its own '
        'split); e2e is always among them. By default all',
    )
    return parser.parse_args(argv)


def plan(
    setting: TrainingSetting, wanted: Sequence[str] | None, max_modules: int
) -> list[Method]:
    """The best split for each method, by the planner.

    Raises:
        ValueError: If there is no such method.
    """
    planner = Planner(Simulator(setting), show)
    splits: dict[str, Split | tuple[int, str | None]] = {}
    most = min(max_modules, len(planner.simulator.candidates) + 1)
    modes = MODES if planner.simulator.can_checkpoint else {'': None}
    for k, suffix in product(range(1, most + 1), modes):
        name = BASE if k == 1 else f'k{k}'
        splits[name + suffix] = (k, modes[suffix])
    if setting.is_local and planner.simulator.own_split is not None:
        splits[OWN] = planner.simulator.own_split
    for name in [*splits]:
        if name == OWN or (name.startswith('k') and name[1:].isdigit()):
            for suffix in SCHEDULES:
                splits[name + suffix] = splits[name]
    unknown = set(wanted or ()) - set(splits)
    if unknown:
        raise ValueError(
            f'--methods: there is no {", ".join(sorted(unknown))}; there are '
            f'{", ".join(splits)}.'
        )
    methods = []
    for name, split in splits.items():
        if wanted and name not in (BASE, *wanted):
            continue
        if not isinstance(split, Split):
            split = planner.balanced(*split).split
        cached = schedule(name)
        if cached is None:
            methods.append(Method(name, planner.measure(split)))
            continue
        try:
            report = planner.one_at_a_time(split, cached)
        except ValueError as error:
            if wanted:
                raise
            show(f'{name} is left out: {error}')
            continue
        methods.append(Method(name, report))
    return methods


def schedule(name: str) -> bool | None:
    """Whether a method's modules read stored features, one at a time.

    None if they train all at once.
    """
    return SCHEDULES.get(name[name.rfind('-') :] if '-' in name else '')


class Bench:
    """Runs methods for real.

    Args:
        setting (TrainingSetting): What is trained.
        where (str): Device.
        compiled (bool): Compile the stages of the backbone.
    """

    def __init__(self, setting: TrainingSetting, where: str, compiled: bool):
        self.setting, self.where, self.compiled = setting, where, compiled
        self._trials: dict[str, RealSteps] = {}
        if compiled:
            # Blocks share the code of their forward, and one behind the
            # limit would silently run as it is.
            torch._dynamo.config.recompile_limit = 1000
            torch._dynamo.config.accumulated_recompile_limit = 10000

    def run(self, method: Method, steps: int) -> None:
        """One round of a method, unless it has failed before."""
        if method.failure:
            return
        split, size = method.plan.split, self.setting.batch_size
        try:
            trial = self._trial(method.name)
            trial.model.to(self.where)
            first = not method.rounds
            # Compiled graphs settle in the third step.
            warmup = 4 if first and self.compiled else 2
            _release()
            cached = schedule(method.name)
            if cached is None:
                timing = trial.time(split, size, steps, warmup)
            else:
                timing = trial.time_modules(split, size, steps, warmup, cached)
            method.rounds.append(timing.seconds)
            if self.where == 'cuda':
                for name in ('allocated', 'reserved'):
                    peak = max(
                        method.memory.get(name, 0), getattr(timing, name)
                    )
                    method.memory[name] = peak
            elif first and not self.compiled:
                if cached is None:
                    reports = [trial.measure(split)]
                else:
                    count = len(split.boundaries) + 1
                    reports = [
                        trial.measure_module(split, index, cached)
                        for index in range(count)
                    ]
                peak = max(report.peak for report in reports)
                method.memory['counted'] = peak
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            method.failure = 'out of memory'
            method.rounds.clear()
            method.memory.clear()
        if self.compiled and method.name in self._trials:
            # The next one finds the device empty.
            trial.model.to('cpu')
        _release()

    def _trial(self, name: str) -> RealSteps:
        # Compiled code goes with a cut, eager code does for all of them.
        key = name if self.compiled else ''
        if key not in self._trials:
            self._trials[key] = RealSteps(
                self.setting, self.where, self.compiled
            )
        return self._trials[key]


def header(
    path: str,
    args: argparse.Namespace,
    setting: TrainingSetting,
    where: str,
    argv: Sequence[str] | None,
) -> str:
    """What was run, where and when."""
    if where == 'cuda':
        kernels = 'on' if args.cudnn_benchmark else 'off'
        device = f'{torch.cuda.get_device_name()}, TF32 off, '
        device += f'cudnn.benchmark {kernels}'
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        device = f'CPU ({capability}), {torch.get_num_threads()} threads'
    how = 'compiled stages' if args.compile else 'eager'
    command = shlex.join(sys.argv[1:] if argv is None else map(str, argv))
    return (
        f'{Path(path).stem}: {setting.inputs}, '
        f'{setting.precision}, {how}, {setting.optimizer}; '
        f'{device}, torch {torch.__version__}; '
        f'{args.rounds} rounds of {args.steps} steps, seed '
        f'{args.seed}, {date.today()}.\n\n'
        f'```shell\npython benchmarks/memory_speed.py {command}\n```'
    )


def show(text: str) -> None:
    """One line of progress, where someone looks on."""
    if sys.stderr.isatty():
        print(f'\r\x1b[K{text}', end='', file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def _release() -> None:
    """Give back what the last method took."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


if __name__ == '__main__':
    main()
