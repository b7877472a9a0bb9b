"""Asynchronous training: each module reads what the one before it wrote."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from mmlocal.registry import LOOPS
from mmlocal.step import LocalBackbone, Stopped, local_backbone

from .buffer import RingBuffer
from .checks import (
    model_problems,
    optimizer_problems,
    scheduler_configs,
)
from .progress import ModuleProgress
from .replayed import Replayed, num_bytes, to_device
from .sampler import ModuleSampler
from .schedules import ModuleSchedules
from .stream import BatchStream

KEY = 'mmlocal_replay'


@LOOPS.register_module()
class ReplayTrainLoop(EpochBasedTrainLoop):
    """Trains one module a tick, from a buffer that the module before fills.

    Algorithm 2 of `Decoupled Greedy Learning
    <https://arxiv.org/abs/1901.08164>`_: in a tick one module is drawn, reads
    a mini-batch from its buffer (the first one from the data), is trained on
    it, and writes its output to the buffer of the next. No module waits for
    another. It takes any local head, and any backbone whose modules run alone
    (:class:`~mmlocal.models.chain.Chain`).

    An iteration of mmengine is a tick. A *module epoch* is as many ticks of a
    module as the data loader has batches; an epoch of the run ends, with
    validation and checkpoint, when all modules have done theirs. Learning
    rates follow the epochs of each module. A module that has done all of its
    epochs only feeds the next, in eval mode, without gradient.

    A checkpoint has the counters, the state of the draws and the schedules.
    With ``save_buffers`` it has the buffers too, and a run that is resumed
    gives the losses of one that was not stopped; without, they are empty then
    and fill by another warm-up.

    Args:
        runner (Runner): Its optimizer's groups are split by module.
        dataloader (DataLoader | dict): What the first module reads.
        max_epochs (int): Epochs of each module.
        buffer (dict, optional): ``size``, ``max_reuse``, ``as_published`` of
            :class:`RingBuffer`. A size of 0 is one mini-batch and modules in
            turn, which is synchronous training. Defaults to a size of 1.
        buffer_device (str): Where buffers lie: 'cpu', or 'model' for the
            device that trains. Defaults to 'cpu'.
        sampler (dict, optional): ``order``, ``slow``, ``seed`` of
            :class:`ModuleSampler`. The seed defaults to the runner's.
        warm_up_at (Sequence[int], optional): Module epochs before which, by
            whichever module, the next ticks become 0, 0, 1, 1, ...: 0 is the
            start of the run, others are those at which rates drop, as
            published. Defaults to (0,), or to () where modules are taken in
            turn.
        reset_at (Sequence[int]): Module epochs before which the state of the
            module's optimizer is cleared; those at which rates drop, as
            published. Defaults to ().
        save_buffers (bool): Whether checkpoints hold the buffers. Defaults
            to False.
        **kwargs: ``val_begin``, ``val_interval`` and ``dynamic_intervals`` of
            mmengine's loop.

    Raises:
        ValueError: If the setting does not fit; the message says what to
            write.

    Example:
        >>> train_cfg = dict(
        ...     type='mmlocal.ReplayTrainLoop',
        ...     max_epochs=50,
        ...     buffer=dict(size=30),
        ...     sampler=dict(slow=dict(module=3, factor=1.2)))
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: Any,
        max_epochs: int,
        buffer: dict | None = None,
        buffer_device: str = 'cpu',
        sampler: dict | None = None,
        warm_up_at: Sequence[int] | None = None,
        reset_at: Sequence[int] = (),
        save_buffers: bool = False,
        **kwargs,
    ):
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        for problem in model_problems(runner):
            raise ValueError(problem)
        self.backbone: LocalBackbone = local_backbone(runner.model)
        if buffer_device not in ('cpu', 'model'):
            raise ValueError(
                f"train_cfg.buffer_device={buffer_device!r}: write 'cpu' or "
                "'model'"
            )
        num_modules, length = self.backbone.num_modules, len(self.dataloader)
        buffer, sampler = dict(buffer or {}), dict(sampler or {})
        if buffer.get('size') == 0:
            buffer['size'] = 1
            sampler.setdefault('order', 'round_robin')
            if sampler['order'] == 'random':
                raise ValueError(
                    'train_cfg.buffer.size=0 takes modules in turn: remove '
                    'sampler.order, or write size=1'
                )
        sampler.setdefault('seed', runner.seed)
        self.sampler = ModuleSampler(num_modules, **sampler)
        self.buffers = [RingBuffer(**buffer) for _ in range(num_modules - 1)]
        self.stream = BatchStream(self.dataloader)
        self.progress = ModuleProgress(num_modules, length, self._max_epochs)
        if warm_up_at is None:
            warm_up_at = (0,) if self.sampler.order == 'random' else ()
        self.warm_up_at, self.reset_at = {*warm_up_at}, {*reset_at}
        self.save_buffers = save_buffers
        self._buffer_device = buffer_device
        self._told_sizes = False
        self._max_iters = self._ticks_left()
        # Built by module in `prepare`, not by the runner for all at once.
        self._schedulers = scheduler_configs(runner.param_schedulers)
        runner.param_schedulers = []
        # An epoch has no fixed number of ticks.
        runner.log_processor.by_epoch = False
        runner.register_hook(_ReplayHook(self))
        if 0 in self.warm_up_at:
            self.sampler.warm_up()

    def prepare(self) -> None:
        """Give each module a schedule, once the optimizer is there.

        Raises:
            ValueError: If the optimizer wrapper does not fit.
        """
        for problem in optimizer_problems(self.runner):
            raise ValueError(problem)
        weights = self.backbone.module_weights
        self.schedules = ModuleSchedules(
            self.runner.optim_wrapper,
            [weights(index) for index in range(self.backbone.num_modules)],
            self._schedulers,
            self.progress.epoch_length,
            self._max_epochs,
        )

    def run(self) -> nn.Module:
        """Launch training."""
        holds = 'hold' if self.save_buffers else 'do not hold'
        resumed = (
            'a resumed run goes on as if it had not been stopped'
            if self.save_buffers
            else 'a resumed run fills them again '
            '(train_cfg.save_buffers=True saves them)'
        )
        print_log(
            'One tick, in which one module trains, is one iteration, and '
            f'those are what the log counts: about {self._max_iters} in all. '
            f'Checkpoints {holds} the buffers: {resumed}.',
            logger='current',
        )
        return super().run()

    def run_epoch(self) -> None:
        """Tick until all modules have done one more epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        while not self.progress.all_reached(self._epoch + 1):
            self.run_iter(*self._next_turn())
        print_log(
            f'After epoch {self._epoch + 1}: {self.progress}.',
            logger='current',
        )
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _next_turn(self) -> tuple[int, Any]:
        """The next module that has something to do, and its batch."""
        while True:
            index = self.sampler.next()
            if not self.progress.is_needed(index):
                continue
            if index == 0:
                return 0, next(self.stream)
            buffer = self.buffers[index - 1]
            batch = buffer.read()
            if batch is not None:
                return index, batch
            counter = 'used_up' if len(buffer) else 'empty'
            getattr(self.progress, counter)[index] += 1
            self._record(index, 'skipped', self.progress.skipped(index))

    def run_iter(self, index: int, batch: Any) -> None:
        """One tick.

        Args:
            index (int): The module.
            batch (dict | Replayed): Of the data loader, or from the buffer.
        """
        hook, model = self.runner.call_hook, self.runner.model
        device = next(model.parameters()).device
        if index == 0:
            hook('before_train_iter', batch_idx=self._iter, data_batch=batch)
            feat, data = None, model.data_preprocessor(batch, True)
            kept = to_device(data, self._place(device))
            self._tell_sizes(data)
        else:
            kept = batch.data
            hook('before_train_iter', batch_idx=self._iter, data_batch=kept)
            feat, data = batch.load(device)
        outputs: dict[str, Any] = {}
        if self.progress.trains(index):
            passed, outputs = self._train(index, feat, data)
            self._count(index)
        else:
            passed = self._run_through(index, feat, data)
            self.progress.fed[index] += 1
        if index < len(self.buffers):
            passed = passed.to(self._place(device))
            self.buffers[index].write(Replayed(passed, kept))
        self._record(index, 'epoch', self.progress.epochs(index))
        self._max_iters = self._iter + 1 + self._ticks_left()
        hook(
            'after_train_iter',
            batch_idx=self._iter,
            data_batch=kept,
            outputs=outputs,
        )
        self._iter += 1

    def _train(
        self, index: int, feat: Tensor | None, data: dict
    ) -> tuple[Tensor | None, dict[str, Any]]:
        """Train a module; what it passes on, and the model's own log."""
        self._begin(index)
        model, wrapper = self.runner.model, self.runner.optim_wrapper
        try:
            with (
                wrapper.optim_context(model),
                self.backbone.alone(index, feat),
            ):
                losses = model(**data, mode='loss')
        except Stopped as stopped:
            wrapper.finish()
            return stopped.feat, {}
        loss, outputs = model.parse_losses(losses)
        wrapper.update_params(loss)
        return None, outputs

    def _begin(self, index: int) -> None:
        epoch = self.progress.begins_epoch(index)
        if epoch in self.reset_at:
            self.schedules.reset_optimizer(index)
        if epoch and epoch in self.warm_up_at:
            self.sampler.warm_up()
        rate = self.schedules.lr(index)
        if rate is not None:
            self._record(index, 'lr', rate)

    def _count(self, index: int) -> None:
        self.progress.trained[index] += 1
        self.schedules.step(index)
        if self.progress.begins_epoch(index) is not None:
            self.schedules.step(index, by_epoch=True)

    def _run_through(
        self, index: int, feat: Tensor | None, data: dict
    ) -> Tensor:
        """A module's output in eval mode."""
        with self._evaluating():
            feat = data['inputs'] if feat is None else feat
            return self.backbone.run_module(index, feat)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        model, wrapper = self.runner.model, self.runner.optim_wrapper
        model.eval()
        with torch.no_grad(), wrapper.optim_context(model):
            yield
        model.train()

    def _place(self, device: torch.device) -> torch.device:
        """Where buffers lie."""
        on_cpu = self._buffer_device == 'cpu'
        return torch.device('cpu') if on_cpu else device

    def _ticks_left(self) -> int:
        """Until the last module is done, on average where they are drawn."""
        goal = self._max_epochs * self.progress.epoch_length
        left = [goal - trained for trained in self.progress.trained]
        if self.sampler.order == 'round_robin':
            return sum(left)
        chances = self.sampler.probabilities.tolist()
        return math.ceil(max(map(operator.truediv, left, chances)))

    def _tell_sizes(self, data: dict) -> None:
        """Say how large full buffers are, before the first batch trains."""
        if self._told_sizes or not self.buffers:
            return
        self._told_sizes = True
        size, feats, feat = self.buffers[0].size, [], None
        for index in range(len(self.buffers)):
            feat = self._run_through(index, feat, data)
            feats.append(num_bytes(feat))
        images = len(feats) * num_bytes(data)
        total = size * (sum(feats) + images) / 2**20
        each = ', '.join(f'{feat / 2**20:.2f}' for feat in feats)
        print_log(
            f'Replay buffers ({self._buffer_device}), {size} mini-batches '
            f'each: {each} MiB a feature behind each module; with images and '
            f'annotations {total:.1f} MiB at most.',
            logger='current',
        )

    def _record(self, index: int, name: str, value: float) -> None:
        key = f'train/local_{index}.{name}'
        self.runner.message_hub.update_scalar(key, value)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of the loop."""
        state = {
            'progress': self.progress.state_dict(),
            'sampler': self.sampler.state_dict(),
            'stream': self.stream.state_dict(),
            'schedules': self.schedules.state_dict(),
        }
        if self.save_buffers:
            # Of plain containers, which load without running code.
            state['buffers'] = [
                {**each, 'items': [vars(item) for item in each['items']]}
                for each in (buffer.state_dict() for buffer in self.buffers)
            ]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: If its buffers do not fit.
        """
        self.progress.load_state_dict(state['progress'])
        self.sampler.load_state_dict(state['sampler'])
        self.stream.load_state_dict(state['stream'])
        self.schedules.load_state_dict(state['schedules'])
        if 'buffers' not in state:
            print_log(
                'The checkpoint holds no replay buffers: they fill again.',
                logger='current',
            )
            if 0 in self.warm_up_at:
                self.sampler.warm_up()
            return
        place = self._place(next(self.runner.model.parameters()).device)
        # A checkpoint is read to the device that trains; buffers share data.
        moved: dict[int, dict] = {}
        for buffer, each in zip(self.buffers, state['buffers'], strict=True):
            items = [
                Replayed(**item).to(place, moved) for item in each['items']
            ]
            buffer.load_state_dict({**each, 'items': items})


class _ReplayHook(Hook):
    """Prepares the loop, and keeps its state in checkpoints."""

    # Knows best why a checkpoint does not fit.
    priority = 'VERY_HIGH'

    def __init__(self, loop: ReplayTrainLoop):
        self.loop = loop

    def before_run(self, runner: Runner) -> None:
        self.loop.prepare()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint[KEY] = self.loop.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        if KEY not in checkpoint:
            raise ValueError(
                'resume: the checkpoint was not written by a '
                'ReplayTrainLoop: write load_from, which takes its weights, '
                'in place of resume'
            )
        self.loop.load_state_dict(checkpoint[KEY])
