"""A run that is killed, or whose disk is full, goes on from a checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmlocal.files import is_whole

FORK = multiprocessing.get_context('fork')


class Line(BaseModel):
    """A weight of 40 kB.

    Args:
        by_hand (bool): Without autograd, whose threads no fork survives.
    """

    def __init__(self, by_hand=False):
        super().__init__()
        self.by_hand = by_hand
        self.weight = torch.nn.Parameter(torch.ones(10_000))

    def forward(self, inputs, mode='tensor'):
        loss = (self.weight * inputs.float()).square().mean()
        return {'loss': loss} if mode == 'loss' else [loss]

    def train_step(self, data, optim_wrapper):
        if not self.by_hand:
            return super().train_step(data, optim_wrapper)
        factor = data['inputs'].float().square().mean()
        self.weight.grad = 2 * factor * self.weight.detach() / 10_000
        optim_wrapper.step()
        return {'loss': factor}


class Better(BaseMetric):
    """Gets better each time."""

    default_prefix = None

    score = 0.0

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        Better.score += 1
        return {'score': Better.score}


@pytest.fixture
def settings(tmp_path):
    """Four iterations with a checkpoint and a validation behind each."""
    loader = {
        'batch_size': 1,
        'num_workers': 0,
        'dataset': [{'inputs': 1.0 + i / 8} for i in range(8)],
        'collate_fn': {'type': 'default_collate'},
        'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
    }
    once = {'type': 'DefaultSampler', 'shuffle': False}
    return {
        'model': Line(),
        'work_dir': str(tmp_path / 'work'),
        'experiment_name': tmp_path.name,
        'train_dataloader': loader,
        'train_cfg': {'by_epoch': False, 'max_iters': 4, 'val_interval': 1},
        'val_dataloader': loader | {'sampler': once},
        'val_cfg': {},
        'val_evaluator': Evaluator(Better()),
        'optim_wrapper': {
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9}
        },
        'default_hooks': {
            'checkpoint': {
                'type': 'mmlocal.LocalCheckpointHook',
                'by_epoch': False,
                'interval': 1,
                'save_best': 'score',
                'rule': 'greater',
                'max_keep_ckpts': 1,
            }
        },
        'custom_hooks': [],
        'randomness': {'seed': 0},
        'log_level': 'WARNING',
    }


def without_validation(settings):
    settings['train_cfg']['val_interval'] = 99
    settings['default_hooks']['checkpoint']['save_best'] = None
    return settings


def build(settings, name='run', **changes) -> Runner:
    settings = deepcopy({**settings, **changes})
    settings['experiment_name'] += f'_{name}'
    return Runner(**settings)


def kill_at(event_number: int, folder: str) -> None:
    """End this process before it opens, renames or removes the n-th file."""
    seen = 0

    def audit(event, args):
        nonlocal seen
        if event not in ('open', 'os.rename', 'os.remove'):
            return
        path = str(args[0])
        if path.startswith(folder) and ('.pth' in path or 'last_' in path):
            seen += 1
            if seen == event_number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


def killed(runner: Runner, event_number: int) -> bool:
    """Train in a process that is killed; False if it came to its end."""

    def train():
        kill_at(event_number, runner.work_dir)
        runner.train()
        os._exit(0)

    process = FORK.Process(target=train)
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_checkpoint(settings):
    """Before every file operation of a run in turn."""
    settings['train_cfg']['max_iters'] = 3
    runner = build(settings, model=Line(by_hand=True))
    work = Path(runner.work_dir)
    logs = {path.name for path in work.iterdir()}
    seen, number = set(), 0
    while True:
        number += 1
        for path in work.iterdir():
            if path.name not in logs:
                path.unlink()
        if not killed(runner, number):
            break
        pointer = work / 'last_checkpoint'
        if not pointer.exists():
            assert not seen, 'there was one before'
            continue
        last = Path(pointer.read_text())
        assert is_whole(last), number
        seen.add(last.name)
        wholes = [path for path in work.glob('best_*') if is_whole(path)]
        # The first one comes after the first checkpoint.
        assert wholes or seen == {'iter_1.pth'}, number
    assert seen == {'iter_1.pth', 'iter_2.pth', 'iter_3.pth'}
    assert number > 25
    files = {path.name for path in work.iterdir()} - logs
    assert files == {'iter_3.pth', 'best_score_iter_3.pth', 'last_checkpoint'}


def test_a_killed_run_goes_on_and_cleans_up(settings, tmp_path):
    """Killed when the new checkpoint is there and the old one, too."""
    settings['model'] = Line(by_hand=True)
    whole = build(without_validation(settings), 'whole')
    whole.train()
    work = tmp_path / 'parts'
    number = 1
    while True:
        first = build(settings, f'first_{number}', work_dir=str(work))
        assert killed(first, number), 'never two at once'
        if len(list(work.glob('iter_*.pth'))) == 2:
            break
        number += 1
        for path in [*work.glob('*.pth*'), *work.glob('last_*')]:
            path.unlink()
    (work / 'iter_9.pth.123.tmp').touch()
    second = build(settings, 'second', work_dir=str(work), resume=True)
    second.train()
    assert second.iter == 4
    assert torch.equal(second.model.weight, whole.model.weight)
    assert {path.name for path in work.glob('*.pth*')} == {'iter_4.pth'}


@pytest.mark.parametrize('damage', ['cut', 'flipped', 'gone', 'no pointer'])
def test_a_damaged_last_one_is_passed_over(settings, tmp_path, damage, caplog):
    settings = without_validation(settings)
    settings['default_hooks']['checkpoint']['max_keep_ckpts'] = 3
    build(settings, 'first').train()
    work = Path(settings['work_dir'])
    last = work / 'iter_4.pth'
    content = bytearray(last.read_bytes())
    expected = 'iter_3.pth'
    if damage == 'cut':
        last.write_bytes(content[: len(content) // 2])
    elif damage == 'flipped':
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
    elif damage == 'gone':
        last.unlink()
    else:
        (work / 'last_checkpoint').unlink()
        expected = 'iter_4.pth'
    runner = build(settings, 'second', resume=True)
    runner.call_hook('before_run')
    assert runner._load_from == str(work / expected)
    log = max(work.glob('*/*.log'), key=os.path.getmtime).read_text()
    problem = {'gone': 'missing', 'no pointer': 'missing or empty'}
    assert f'is {problem.get(damage, "damaged")}: the run is resumed' in log
    for path in work.glob('*.pth'):
        path.write_bytes(b'PK')
    runner = build(settings, 'third', resume=True)
    with pytest.raises(ValueError, match='there is no whole checkpoint in'):
        runner.train()


def test_there_may_be_nothing_to_resume(settings):
    runner = build(without_validation(settings), resume=True)
    runner.train()
    assert runner.iter == 4


class Fill(Hook):
    """Lets no file grow beyond 50 kB, in the third iteration."""

    priority = 'HIGHEST'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            most = resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))


@pytest.mark.parametrize('end', ['error', 'kill'])
def test_a_write_that_fails_in_the_middle(settings, tmp_path, end):
    """As on a full disk; or the process is killed there."""
    report = tmp_path / 'report.txt'
    settings['model'] = Line(by_hand=True)
    runner = build(without_validation(settings))
    runner.register_hook(Fill())

    def train():
        if end == 'kill':  # which Python ignores
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        try:
            runner.train()
        except OSError as error:
            report.write_text(str(error))
        os._exit(0)

    process = FORK.Process(target=train)
    process.start()
    process.join(60)
    work = Path(runner.work_dir)
    assert [path.name for path in work.glob('*.pth')] == ['iter_2.pth']
    assert is_whole(work / 'iter_2.pth')
    assert (work / 'last_checkpoint').read_text().endswith('iter_2.pth')
    if end == 'kill':
        assert process.exitcode == -signal.SIGXFSZ
        return
    text = report.read_text()
    assert f'{work / "iter_3.pth"} takes ' in text and ' KiB, and the' in text
    assert f'the disk of {work.resolve()} has ' in text and ' left. ' in text
    assert not list(work.glob('*.tmp'))


class StopAfter(Hook):
    priority = 'LOWEST'

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        if runner.iter + 1 == self.iterations:
            raise KeyboardInterrupt


@pytest.mark.parametrize('stop', [4, 5, 6])
def test_an_accumulation_goes_on_where_it_was_stopped(
    settings, tmp_path, stop
):
    settings = without_validation(settings)
    settings['train_cfg']['max_iters'] = 10
    settings['optim_wrapper']['accumulative_counts'] = 3
    whole = build(settings, 'whole', work_dir=str(tmp_path / 'whole'))
    whole.train()
    first = build(settings, 'first')
    first.register_hook(StopAfter(stop))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    path = Path(settings['work_dir'], f'iter_{stop}.pth')
    kept = torch.load(path, weights_only=False).get('mmlocal_accumulation')
    assert (kept is None) == (stop % 3 == 0)
    second = build(settings, 'second', resume=True)
    second.train()
    assert torch.equal(second.model.weight, whole.model.weight)


def test_another_accumulation_leaves_the_gradients_out(settings):
    settings = without_validation(settings)
    settings['optim_wrapper']['accumulative_counts'] = 3
    first = build(settings, 'first')
    first.register_hook(StopAfter(2))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    settings['optim_wrapper']['accumulative_counts'] = 4
    second = build(settings, 'second', resume=True)
    second.load_or_resume()
    second.call_hook('before_train')
    assert second.model.weight.grad is None
    work = Path(settings['work_dir'])
    log = max(work.glob('*/*.log'), key=os.path.getmtime).read_text()
    assert 'accumulative_counts is 4, and was 3' in log
