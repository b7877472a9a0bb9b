"""Checks on 2 to 4 gloo ranks; each is a function in a `checks_*.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).parent
# fully_shard runs on CPUs.
SHARDS = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, 'record_event'), reason='needs a newer torch'
)
NAMES = [
    'gradients-2',
    'gradients_of_more_ranks-4',
    'gradients_of_other_models-2',
    'gradients_of_ddp-2',
    'gradients_in_small_buckets-2',
    'gradients_that_are_set_to_zero-2',
    'gradients_with_checkpointing-2',
    'gradients_in_half_precision-2',
    'gradients_unused_on_one_rank-2',
    'gradients_after_freezing-2',
    'gradients_of_replaced_weights-2',
    'gradients_of_blocks_dropped_at_first-2',
    'order_between_modules-2',
    'order_within_a_module-2',
    'early_on_all_ranks-2',
    'gradients_that_are_predicted-2',
    'gradients_of_pairs-2',
    'gradients_of_signals-2',
    'gradients_of_patches-2',
    'negatives_of_all_ranks-2',
    'gradients_of_sequences-2',
    'prototypes-2',
    'gradients_of_each_block-2',
    'traffic-2',
    'no_traffic_while_accumulating-2',
    'waiting_for_one_module-2',
    'overflow_on_one_rank-2',
    'unused_parameters-2',
    'errors_on_one_rank_that_freezes-2',
    'errors_on_shared_parameters-2',
    'errors_on_sharing_with_the_last_module-2',
    'errors_of_the_caller-2',
    'buffers-2',
    'state_dict_keys-2',
    'skipped_batch-2',
    'stuck_rank-2',
    'runner-2',
    'validation-2',
    'one_process_and_two_ranks-2',
    'sequential-2',
    'sequential_cached-2',
    'sequential_cached_apart-2',
    'validation_of_modules-2',
    'memories_of_ctc-2',
    'sharded_training-2',
    'sharded_training-3',
    'sharded_training_by_unit-2',
    'sharded_segmentors-2',
    'sharded_heads-2',
    'sharded_mixed_precision-2',
    'sharded_overflow_on_one_rank-2',
    'sharded_states-2',
    'sharded_inference-2',
    'sharded_bytes-2',
    'errors_of_sharding-2',
    'sharded_runner-2',
    'sharded_tool-2',
    'sharded_copy-2',
    'sharded_accumulation_that_is_kept_whole-2',
    'module_parallel-2',
    'module_parallel_vgg-2',
    'module_parallel_in_stages-2',
    'module_parallel_amp-2',
    'module_parallel_mesh-4',
    'module_parallel_delayed-2',
    'module_parallel_overflow-2',
    'module_parallel_memory-2',
    'module_parallel_traffic-2',
    'module_parallel_refuses-2',
    'module_parallel_predictions-2',
    'module_parallel_segmentor-2',
    'module_parallel_runs-2',
    'module_parallel_validation-2',
    # Behind these, ranks are forked anew.
    'step_that_fails-2',
    'killed_rank-2',
    'sharded_killed_rank-2',
    'module_parallel_killed-2',
]
# The core of each wrapper.
QUICK = {
    'gradients-2',
    'gradients_of_ddp-2',
    'order_between_modules-2',
    'traffic-2',
    'errors_on_shared_parameters-2',
    'state_dict_keys-2',
    'sharded_training-2',
    'module_parallel-2',
}


def marked(name: str) -> Any:
    marks = [] if name in QUICK else [pytest.mark.slow]
    if name.startswith('sharded') or name == 'errors_of_sharding-2':
        marks.append(SHARDS)
    return pytest.param(name, marks=marks)


# What a rank ends with where that is not success.
ENDS = {
    name: {1: 'exit code -9'}
    for name in (
        'step_that_fails-2',
        'killed_rank-2',
        'module_parallel_killed-2',
        'sharded_killed_rank-2',
    )
}


@pytest.fixture(scope='module')
def results(tmp_path_factory, request):
    """What the ranks of the selected checks ended with."""
    names = [
        item.callspec.params['name']
        for item in request.session.items
        if item.path == Path(__file__) and hasattr(item, 'callspec')
    ]
    folder = tmp_path_factory.mktemp('ranks')
    worker = subprocess.run(
        [sys.executable, HERE / 'worker.py', folder, *names],
        capture_output=True,
        text=True,
        timeout=500,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert worker.returncode == 0, worker.stderr[-6000:]
    return json.loads((folder / 'results.json').read_text())


@pytest.mark.parametrize('name', [marked(name) for name in NAMES])
def test_ranks(name, results):
    ends = ENDS.get(name, {})
    for rank, found in enumerate(results[name]):
        assert found == ends.get(rank, ''), f'rank {rank}: {found}'


def test_all_checks_are_run():
    source = ''.join(path.read_text() for path in HERE.glob('checks_*.py'))
    assert source.count('@check(') == len({n.split('-')[0] for n in NAMES})
