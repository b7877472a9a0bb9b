"""Put every config that mmseg and mmpretrain ship to the test.

    python benchmarks/sweep.py --out work_dirs/sweep
    python benchmarks/sweep.py --out work_dirs/sweep --all
    python benchmarks/sweep.py --out work_dirs/sweep mmseg/unet mmpretrain/tnt

Each is built with small images and, if it trains end to end here, planned for
K = 2, 3, 4 and for a budget, cut by ``EqualDepth(2)``, and trained one step by
a greedy head and by InfoPro's; the gradients are held to those of one plain
backward a loss. Block and selective checkpointing have to give the same ones.

A process a config, with a limit of time and of memory. What has a result is
left out in the next run, unless --again. The table and the page are written
from all results that are there.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from stock.case import Case
from stock.configs import (
    LIBRARIES,
    StockConfig,
    one_a_family,
    stock_configs,
)
from stock.page import outcome, write

from mmlocal.planner import report


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep, or one config of it."""
    args = parse_args(argv)
    torch.set_num_threads(1)
    # Nothing is downloaded.
    os.environ['HF_HUB_OFFLINE'] = '1'
    MMLogger.get_instance('mmengine', log_level='ERROR')
    for config in chosen(args.configs, args.all):
        file = result_file(args.out, config)
        if is_done(file) and not args.again:
            continue
        print(config.name, end=' ', flush=True)
        run_process(config, file, args)
        print(outcome(json.loads(file.read_text())), flush=True)
    write(args.out, args.page)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'configs', nargs='*', help='names of configs begin with one of these'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument(
        '--page', type=Path, help='also write the page of the documents here'
    )
    parser.add_argument(
        '--all', action='store_true', help='all configs, not one a family'
    )
    parser.add_argument('--again', action='store_true')
    parser.add_argument(
        '--time-limit', type=int, default=900, help='seconds a config'
    )
    parser.add_argument(
        '--memory-limit', type=float, default=6, help='GiB a config'
    )
    return parser.parse_args(argv)


def chosen(names: Sequence[str], every: bool) -> list[StockConfig]:
    """What to put to the test.

    Raises:
        SystemExit: If there is no config of a name.
    """
    configs = list(stock_configs())
    for name in names:
        if not any(config.name.startswith(name) for config in configs):
            raise SystemExit(
                f'there is no config {name!r}; names begin with one of '
                f'{LIBRARIES}, as mmseg/unet'
            )
    if names:
        configs = [c for c in configs if c.name.startswith(tuple(names))]
    return configs if every else one_a_family(configs)


def run_process(
    config: StockConfig, file: Path, args: argparse.Namespace
) -> None:
    """Run one config in a process of its own, forked from this one."""
    process = get_context('fork').Process(
        target=run_case, args=(config, file, args.memory_limit)
    )
    process.start()
    process.join(args.time_limit)
    end = ''
    if process.is_alive():
        process.kill()
        process.join()
        end = f'over the limit of {args.time_limit} s'
    elif process.exitcode:
        end = f'exit code {process.exitcode}'
    result = {'config': config.name, 'family': config.family, 'checks': {}}
    if file.is_file():
        result = json.loads(file.read_text())
    report.write_json(file, {**result, 'end': end})


def run_case(config: StockConfig, file: Path, memory_limit: float) -> None:
    """Run one config here; what it prints goes to a file beside."""
    limit = int(memory_limit * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix('.log').open('w') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        Case(config, lambda result: report.write_json(file, result)).run()


def is_done(file: Path) -> bool:
    """Whether a config has run to its end; a run may have been stopped."""
    return file.is_file() and 'end' in json.loads(file.read_text())


def result_file(out: Path, config: StockConfig) -> Path:
    """Where a config's result is kept."""
    return (out / 'cases' / config.name).with_suffix('.json')


if __name__ == '__main__':
    main()
