"""Runs checks on gloo ranks: ``python worker.py FOLDER [CHECK ...]``.

The libraries are imported once, models are built once; ranks are forked and
inherit both. They run one check after another, until one fails: the next one
has ranks of its own. What went wrong goes to FOLDER/results.json, by check and
rank.
"""

from __future__ import annotations

import gc
import importlib
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
CHECKS: dict[str, tuple[Callable, int]] = {}
# Configs of models, to be built before the ranks are forked.
PREBUILT: list[dict] = []


def check(*worlds: int) -> Callable:
    """Register ``function(rank, folder)`` to be run on so many ranks."""

    def register(function: Callable) -> Callable:
        for world in worlds or (2,):
            CHECKS[f'{function.__name__}-{world}'] = (function, world)
        return function

    return register


def run(name: str, rank: int, folder: Path) -> None:
    """Run a check as one of its ranks."""
    import torch
    import torch.distributed as dist

    function, world = CHECKS[name]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work_dir = folder / name
    work_dir.mkdir(exist_ok=True)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder / name}.store',
        rank=rank,
        world_size=world,
    )
    function(rank, work_dir)
    if dist.is_initialized():
        # Before torch 2.8 the end of a group waits for its threads, and they
        # wait for the interpreter to free what they have sent: let them.
        # https://github.com/pytorch/pytorch/pull/154976
        time.sleep(0.02)
        dist.destroy_process_group()


def serve(pipe: Connection, rank: int, folder: Path) -> None:
    """Run the checks that the pipe names, and answer what has gone wrong."""
    error = ''
    # A rank that fails ends: the others shall not wait for it.
    while not error:
        name = pipe.recv()
        try:
            run(name, rank, folder)
        except BaseException:
            error = traceback.format_exc()
        pipe.send(error)


class Ranks:
    """Processes that run checks together, one after another."""

    def __init__(self, world: int, folder: Path):
        self.processes, self.pipes = [], []
        fork = multiprocessing.get_context('fork')
        for rank in range(world):
            pipe, its_pipe = fork.Pipe()
            process = fork.Process(
                target=serve, args=(its_pipe, rank, folder), daemon=True
            )
            process.start()
            # An end of the process is the end of its pipe.
            its_pipe.close()
            self.processes.append(process)
            self.pipes.append(pipe)

    def run(self, name: str, timeout: float = 120) -> list[str]:
        """Run a check.

        Returns:
            list[str]: What each rank ended with: '', a traceback, or its exit
            code.
        """
        end = time.monotonic() + timeout
        for pipe in self.pipes:
            pipe.send(name)
        errors = []
        for process, pipe in zip(self.processes, self.pipes, strict=True):
            if not pipe.poll(max(end - time.monotonic(), 0.1)):
                process.kill()
            try:
                errors.append(pipe.recv())
            except (EOFError, ConnectionError):
                process.join()
                errors.append(f'exit code {process.exitcode}')
        return errors

    def kill(self) -> None:
        """End what is left of them."""
        for process in self.processes:
            process.kill()
            process.join()


def prepare() -> None:
    """Import and ask once what each rank's run would."""
    import matplotlib.pyplot  # noqa: F401
    import mmpretrain.utils
    import mmseg.utils
    from mmengine.runner import runner

    runner.collect_env()
    for library in (mmseg, mmpretrain):
        library.utils.register_all_modules(init_default_scope=False)


def main() -> None:
    """Run the checks named on the command line, all without one."""
    import conftest
    from mmengine.logging import MMLogger

    MMLogger.get_instance('worker', log_level='WARNING')
    prepare()
    for path in sorted(HERE.glob('checks_*.py')):
        importlib.import_module(path.stem)
    for cfg in PREBUILT:
        conftest.build(cfg)
    gc.collect()
    gc.freeze()
    folder = Path(sys.argv[1])
    results, ranks = {}, {}
    for name in sys.argv[2:] or CHECKS:
        start = time.monotonic()
        world = CHECKS[name][1]
        if world not in ranks:
            ranks[world] = Ranks(world, folder)
        results[name] = ranks[world].run(name)
        # Of more than a pair there are too few checks to share ranks.
        if any(results[name]) or world > 2:
            ranks.pop(world).kill()
        print(f'{name}: {time.monotonic() - start:.1f} s', flush=True)
        for error in results[name]:
            print(error)
    (folder / 'results.json').write_text(json.dumps(results))


if __name__ == '__main__':
    # The checks import `check` from this module: let there be one of it.
    sys.modules['worker'] = sys.modules['__main__']
    main()
