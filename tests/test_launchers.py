"""tools/*.sh: which interpreter they run, and what they wait for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / 'tools'
ARGUMENTS = {
    'dist_train.sh': ['CONFIG', '3'],
    'dist_test.sh': ['CONFIG', 'CHECKPOINT', '3'],
    'slurm_train.sh': ['PARTITION', 'JOB', 'CONFIG'],
    'slurm_test.sh': ['PARTITION', 'JOB', 'CONFIG', 'CHECKPOINT'],
}
SAYS_ITS_ARGUMENTS = '[ "$1" = -c ] || echo "$0 ran" "$@"'
HAS_NO_TORCH = f'exec {sys.executable} -I -S "$@"'
# srun runs what begins with the first word that is no option.
SRUN = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def launch(tmp_path):
    """Run a launcher where `python` has no torch."""
    executable(tmp_path / 'bin/srun', SRUN)
    executable(tmp_path / 'bin/python', HAS_NO_TORCH)
    path = f'{tmp_path / "bin"}{os.pathsep}{os.environ["PATH"]}'
    unset = ('VIRTUAL_ENV', 'PYTHON', 'NNODES', 'NODE_RANK', 'MASTER_ADDR')
    clean = {k: v for k, v in os.environ.items() if k not in unset}

    def run(name, **variables):
        return subprocess.run(
            [TOOLS / name, *ARGUMENTS[name], '--amp'],
            capture_output=True,
            text=True,
            check=False,
            env={**clean, 'PATH': path, **variables},
            timeout=60,
        )

    return run


@pytest.mark.parametrize('name', ARGUMENTS)
def test_an_interpreter_without_torch(launch, name, tmp_path):
    result = launch(name)
    assert result.returncode == 1
    assert f'{tmp_path / "bin/python"} does not run or has' in result.stderr
    assert 'PYTHON=' in result.stderr
    assert 'Traceback' not in result.stderr
    result = launch(name, PYTHON='/there/is/none')
    assert result.returncode == 1
    assert '/there/is/none does not run' in result.stderr


@pytest.mark.parametrize('name', ARGUMENTS)
def test_the_interpreter_of_the_environment(launch, name, tmp_path):
    venv = executable(tmp_path / 'venv/bin/python', SAYS_ITS_ARGUMENTS)
    chosen = executable(tmp_path / 'chosen', SAYS_ITS_ARGUMENTS)
    variables = {'VIRTUAL_ENV': str(tmp_path / 'venv')}
    for python in (venv, chosen):
        result = launch(name, **variables)
        assert result.returncode == 0, result.stderr
        assert f'{python} ran' in result.stdout
        script, *rest = result.stdout.split('tools/')[-1].split()
        assert script == f'{name.split("_")[1].removesuffix(".sh")}.py'
        launcher = 'slurm' if 'slurm' in name else 'pytorch'
        files = [word for word in ARGUMENTS[name] if word.startswith('C')]
        assert rest == [*files, '--launcher', launcher, '--amp']
        assert ('--nproc_per_node=3' in result.stdout) == ('dist' in name)
        assert result.stderr == ''
        variables['PYTHON'] = str(chosen)


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh'])
def test_machines_that_wait_say_so(launch, name, tmp_path):
    python = executable(tmp_path / 'chosen', SAYS_ITS_ARGUMENTS)
    variables = {
        'PYTHON': str(python),
        'NNODES': '2',
        'MASTER_ADDR': 'first',
        'PORT': '29517',
    }
    result = launch(name, **variables)
    text = 'waiting up to 600 seconds (WAIT) until all 2 machines (NNODES)'
    assert f'{text} meet at first:29517' in result.stderr
    assert 'join_timeout=600,read_timeout=600' in result.stdout
    result = launch(name, **variables, NODE_RANK='1', WAIT='20')
    assert 'machine 1: waiting up to 20 seconds' in result.stderr
    assert '--rdzv_conf=timeout=20 ' in result.stdout
    assert '--node_rank=1 --master_addr=first' in result.stdout
