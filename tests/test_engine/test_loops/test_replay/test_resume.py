"""A run that is stopped, and goes on."""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook

from mmlocal.engine.loops.replay.sampler import ModuleSampler


@pytest.fixture
def cfg(helpers, replay, tmp_path):
    """With all that a run has to remember."""
    cfg = replay.settings(
        helpers,
        tmp_path,
        buffer={'size': 3, 'max_reuse': 2},
        sampler={'slow': {'module': 1, 'factor': 2}},
        warm_up_at=[0, 1],
        reset_at=[2],
    )
    cfg['default_hooks']['checkpoint'] = {
        'type': 'CheckpointHook',
        'by_epoch': False,
        'interval': 1,
        'max_keep_ckpts': 1,
    }
    return cfg


def stopped_and_resumed(cfg, replay, iters):
    """The parts of a broken run, and what its second part begins with."""
    cfg['default_hooks']['checkpoint']['interval'] = iters
    first = replay.run(cfg, 'first', replay.StopAfter(iters))
    hook = Beginning()
    second = replay.run(cfg, 'second', hook, resume=True)
    assert len(first[1]) == iters < len(first[1] + second[1])
    return first, second, hook


class Beginning(Hook):
    """What the loop begins with."""

    def before_train(self, runner):
        self.state = deepcopy(runner.train_loop.state_dict())
        self.sizes = [len(buffer) for buffer in runner.train_loop.buffers]


# In the warm-up, before a rate drops, and behind.
@pytest.mark.parametrize(
    'iters',
    [14, *(pytest.param(i, marks=pytest.mark.slow) for i in (3, 11, 25))],
)
@pytest.mark.slow
def test_with_buffers_as_if_it_had_not_been_stopped(
    cfg, replay, once, tmp_path, iters
):
    """Loss for loss, and weight for weight."""
    cfg['train_cfg']['save_buffers'] = True
    work_dir = str(tmp_path / 'whole')
    whole = once('whole', replay.run, cfg, 'whole', work_dir=work_dir)
    first, second, _ = stopped_and_resumed(cfg, replay, iters)
    assert first[1] + second[1] == whole[1]
    state = whole[0].model.state_dict()
    for name, value in second[0].model.state_dict().items():
        assert torch.equal(value, state[name]), name
    last = whole[0].train_loop.state_dict()['progress']
    assert second[0].train_loop.state_dict()['progress'] == last
    assert 'Checkpoints hold the buffers' in replay.text(second[0])


def test_at_the_end_of_an_epoch(cfg, replay, tmp_path):
    class StopAfterEpoch(Hook):
        priority = 'LOWEST'

        def after_train_epoch(self, runner):
            raise KeyboardInterrupt

    cfg['train_cfg']['save_buffers'] = True
    cfg['default_hooks']['checkpoint'] = {
        'type': 'CheckpointHook',
        'interval': 1,
    }
    _, whole = replay.run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    _, first = replay.run(cfg, 'first', StopAfterEpoch())
    runner, second = replay.run(cfg, 'second', resume=True)
    assert len(first) > 12 and first + second == whole
    assert runner.epoch == 3


def test_data_of_a_batch_is_saved_once(cfg, replay):
    """Two buffers that hold the same batch share its images again."""
    cfg['train_cfg']['save_buffers'] = True
    replay.run(cfg, 'first', replay.StopAfter(6))

    class Shared(Hook):
        def before_train(self, runner):
            buffers = runner.train_loop.buffers
            self.data = [
                {id(item.data) for item in buffer.items} for buffer in buffers
            ]

    hook = Shared()
    replay.run(cfg, 'second', hook, resume=True)
    assert hook.data[0] & hook.data[1]


@pytest.mark.parametrize(
    'iters', [14, *(pytest.param(i, marks=pytest.mark.slow) for i in (3, 25))]
)
@pytest.mark.slow
def test_without_buffers_all_else_goes_on(cfg, replay, iters):
    first, second, begin = stopped_and_resumed(cfg, replay, iters)
    state = first[0].train_loop.state_dict()
    assert begin.sizes == [0, 0]
    for name in 'progress', 'stream', 'schedules':
        assert begin.state[name] == state[name]
    # The warm-up fills the buffers; then draws go on where they were.
    samplers = [
        ModuleSampler(3, slow={'module': 1, 'factor': 2}) for _ in range(2)
    ]
    states = state['sampler'], begin.state['sampler']
    for sampler, each in zip(samplers, states, strict=True):
        sampler.load_state_dict(each)
    samplers[0]._waiting = []
    warm = [samplers[1].next() for _ in range(6)]
    assert warm == [0, 0, 1, 1, 2, 2]
    expected = [samplers[0].next() for _ in range(30)]
    assert [samplers[1].next() for _ in range(30)] == expected
    assert second[0].train_loop.progress.trained == [12, 12, 12]
    log = replay.text(second[0])
    assert 'Checkpoints do not hold the buffers' in log
    assert 'The checkpoint holds no replay buffers' in log


def test_in_turn_a_batch_that_was_under_way_is_made_up_for(cfg, replay):
    cfg['train_cfg'] = {
        'type': 'mmlocal.ReplayTrainLoop',
        'max_epochs': 3,
        'buffer': {'size': 0},
    }
    # Module 0 has written what nobody has read.
    replay.run(cfg, 'first', replay.StopAfter(4))
    runner, ticks = replay.run(cfg, 'second', resume=True)
    progress = runner.train_loop.progress
    assert progress.trained == [12, 12, 12] and progress.fed == [1, 0, 0]
    assert progress.empty == [0, 1, 1]


def test_buffers_of_another_size_are_refused(cfg, replay):
    cfg['train_cfg']['save_buffers'] = True
    replay.run(cfg, 'first', replay.StopAfter(6))
    cfg['train_cfg']['buffer'] = {'size': 5}
    with pytest.raises(ValueError, match='buffer.size=5.* of 3'):
        replay.run(cfg, 'second', resume=True)


def test_checkpoint_of_another_loop_is_refused(cfg, replay):
    train_cfg = {'by_epoch': True, 'max_epochs': 1}
    replay.run(cfg, 'first', train_cfg=train_cfg)
    with pytest.raises(ValueError, match='write load_from'):
        replay.run(cfg, 'second', resume=True)


def test_weights_of_another_loop_are_loaded(cfg, replay, tmp_path):
    train_cfg = {'by_epoch': True, 'max_epochs': 1}
    first, _ = replay.run(cfg, 'first', train_cfg=train_cfg)
    runner, ticks = replay.run(
        cfg, 'second', load_from=f'{tmp_path}/iter_{first.iter}.pth'
    )
    assert runner.epoch == 3 and len(ticks) == runner.iter
