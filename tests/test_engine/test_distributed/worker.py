"""Runs checks on gloo ranks: ``python worker.py FOLDER [CHECK ...]``.

The libraries are imported once, models are built once; the ranks of each check
are forked and inherit both. What went wrong goes to FOLDER/results.json, by
check and rank.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
CHECKS: dict[str, tuple[Callable, int]] = {}


def check(*worlds: int) -> Callable:
    """Register ``function(rank, folder)`` to be run on so many ranks."""

    def register(function: Callable) -> Callable:
        for world in worlds or (2,):
            CHECKS[f'{function.__name__}-{world}'] = (function, world)
        return function

    return register


def rank_main(name: str, rank: int, folder: Path) -> None:
    """Run one check as one rank."""
    import torch
    import torch.distributed as dist

    function, world = CHECKS[name]
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    work_dir = folder / name
    work_dir.mkdir(exist_ok=True)
    try:
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder / name}.store',
            rank=rank,
            world_size=world,
        )
        function(rank, work_dir)
    except BaseException:
        (work_dir / f'error.{rank}').write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)


def run(name: str, folder: Path, timeout: float = 120) -> list[str]:
    """Fork the ranks of a check.

    Returns:
        list[str]: What each rank ended with: '', a traceback, or its exit
        code.
    """
    fork = multiprocessing.get_context('fork')
    ranks = [
        fork.Process(target=rank_main, args=(name, rank, folder))
        for rank in range(CHECKS[name][1])
    ]
    end = time.monotonic() + timeout
    for process in ranks:
        process.start()
    errors = []
    for rank, process in enumerate(ranks):
        process.join(max(end - time.monotonic(), 0.1))
        if process.is_alive():
            process.kill()
        error = folder / name / f'error.{rank}'
        code = process.exitcode
        text = error.read_text() if error.exists() else f'exit code {code}'
        errors.append('' if code == 0 else text)
    return errors


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
    import checks_ctc  # noqa: F401
    import checks_failures  # noqa: F401
    import checks_forward_forward  # noqa: F401
    import checks_fsdp  # noqa: F401
    import checks_fsdp_runner  # noqa: F401
    import checks_fsdp_states  # noqa: F401
    import checks_gradients
    import checks_layerwise  # noqa: F401
    import checks_module_parallel  # noqa: F401
    import checks_module_parallel_runs  # noqa: F401
    import checks_order  # noqa: F401
    import checks_patches  # noqa: F401
    import checks_runner  # noqa: F401
    import checks_sequences  # noqa: F401
    import checks_sequential  # noqa: F401
    import checks_sigprop  # noqa: F401
    import checks_synthetic  # noqa: F401
    import checks_validation  # noqa: F401
    import conftest
    from mmengine.logging import MMLogger

    MMLogger.get_instance('worker', log_level='WARNING')
    prepare()
    for cfg in checks_gradients.models().values():
        conftest.build(cfg)
    gc.collect()
    gc.freeze()
    folder = Path(sys.argv[1])
    results = {}
    for name in sys.argv[2:] or CHECKS:
        start = time.monotonic()
        results[name] = run(name, folder)
        print(f'{name}: {time.monotonic() - start:.1f} s', flush=True)
        for error in results[name]:
            print(error)
    (folder / 'results.json').write_text(json.dumps(results))


if __name__ == '__main__':
    # The checks import `check` from this module: let there be one of it.
    sys.modules['worker'] = sys.modules['__main__']
    main()
