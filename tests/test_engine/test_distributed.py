import subprocess
import sys
from pathlib import Path


def test_two_ranks_with_find_unused_parameters(tmp_path):
    """Invariant 6, with mmengine's own DDP wrapper.

    Gradients of 2 ranks equal the average of the ranks' own over three
    steps, with accumulation 1 and 2; the real Runner keeps parameters equal.
    """
    worker = Path(__file__).with_name('distributed_worker.py')
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    result = subprocess.run(
        [*launch, '--nproc_per_node=2', str(worker), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output[-6000:]
    for line in ('accumulation 1 ok', 'accumulation 2 ok', 'runner ok'):
        assert output.count(line) == 2, output[-6000:]
