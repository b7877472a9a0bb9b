"""Python programs in processes of their own, without the wait for libraries.

A server imports torch, mmengine and what else takes long, and forks for each
program; mmseg, mmpretrain and MMLocal are as new to it as to a process that
is started.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from pathlib import Path

# Seconds after which a program is killed.
LIMIT = 240


class FreshPython:
    """Runs programs one after another.

    Args:
        folder (Path): Where outputs go.
    """

    def __init__(self, folder: Path):
        self.outputs = [folder / 'stdout', folder / 'stderr']
        # Looking for a device at import, CUDA would be spoilt for forks.
        env = {**os.environ, 'PYTORCH_NVML_BASED_CUDA_CHECK': '1'}
        # As in a test: sums in another order differ.
        env['OMP_NUM_THREADS'] = '1'
        self.server = subprocess.Popen(
            [sys.executable, '-u', __file__, *map(str, self.outputs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def start(
        self, *args: str | Path, cwd: str | Path = '.', **env: str
    ) -> int:
        """Start a program; to be waited for.

        Args:
            *args (str | Path): As behind ``python``: a script or ``-c`` and
                a text, and its arguments.
            cwd (str | Path): Where it runs.
            **env (str): What is added to the environment.

        Returns:
            int: The process.
        """
        job = {'args': [*map(str, args)], 'cwd': str(Path(cwd).absolute())}
        print(json.dumps(job | {'env': env}), file=self.server.stdin)
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self) -> subprocess.CompletedProcess:
        """How the program ended that was started."""
        code = int(self.server.stdout.readline())
        texts = [path.read_text() for path in self.outputs]
        return subprocess.CompletedProcess('python', code, *texts)

    def run(self, *args: str | Path, **kwargs) -> subprocess.CompletedProcess:
        """Start a program and wait for it; see :meth:`start`."""
        self.start(*args, **kwargs)
        return self.wait()

    def close(self) -> None:
        """End the server."""
        self.server.communicate()


def serve(outputs: list[str]) -> None:
    """Fork for each line of the input; say the child and its exit code."""
    import scipy.optimize  # noqa: F401
    import torchvision  # noqa: F401
    from mmengine.runner import runner
    from yapf.yapflib import yapf_api

    # As in conftest.py.
    runner.collect_env = dict
    yapf_api.FormatCode = lambda text, **style: (text, False)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(run(outputs, **json.loads(line)))
        print(child)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def run(
    outputs: list[str], args: list[str], cwd: str, env: dict[str, str]
) -> int:
    """Do what ``python *args`` does, and return the exit code."""
    signal.alarm(LIMIT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(outputs, 1):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags), number)
    os.chdir(cwd)
    os.environ.update(env)
    paths = env.get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:1] = [str(Path(args[0]).parent), *filter(None, paths)]
    try:
        if args[0] == '-c':
            sys.path[0], sys.argv = '', ['-c', *args[2:]]
            exec(args[1], {'__name__': '__main__'})
        else:
            sys.argv = args
            runpy.run_path(args[0], run_name='__main__')
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else bool(end.code)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


if __name__ == '__main__':
    serve(sys.argv[1:])
