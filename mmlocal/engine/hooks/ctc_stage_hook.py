"""The two stages of contrastive temporal coding."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from mmengine.dist import get_rank, is_distributed
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn

from mmlocal.engine.distributed import average_statistics
from mmlocal.registry import HOOKS
from mmlocal.step import unwrap


@runtime_checkable
class TwoStageModel(Protocol):
    """What the hook asks of a model; see :class:`mmlocal.CTCClassifier`."""

    stage: int
    info_bank: nn.Module

    def begin_training(self, labels: Tensor) -> None:
        """Say which class each image of the training set has."""

    def take_snapshot(self) -> None:
        """Keep the network as it is now."""

    def seed_draw(self, seed: int) -> None:
        """Say which negatives the next batch has."""

    def write_memories(self) -> None:
        """Write what was made of the last batch."""

    def fill_memories(self, data: dict) -> None:
        """Set the second stage's memories to embeddings of the snapshot."""


@HOOKS.register_module()
class CTCStageHook(Hook):
    """Takes a :class:`mmlocal.CTCClassifier` through its two stages.

    When epoch ``switch_epoch`` begins, counted from 0, the network is copied
    into the frozen snapshot that the second stage compares with, and weight
    decay falls to what the optimizer was built with. On several ranks the
    snapshot has the averaged running statistics. After each iteration the
    memories are written, with the embeddings of all ranks.

    The stage follows from the epoch; memories, snapshot and constants are in
    the checkpoint, and negatives are drawn by the run's seed and the number
    of the iteration: a run that is resumed does what one that was not
    stopped does.

    Args:
        switch_epoch (int): E1, how many epochs the first stage has. Defaults
            to 200.
        weight_decay_factor (float): On weight decay in the first stage.
            Defaults to 2.
        update_memory_bank (bool): Before the second stage, go through the
            augmented training set once, and fill its memories with the
            snapshot's embeddings; else they begin random. Defaults to
            False.

    Raises:
        ValueError: Before training, if the switch does not fit the run, or
            the model or the training set cannot be trained so.
    """

    def __init__(
        self,
        switch_epoch: int = 200,
        weight_decay_factor: float = 2.0,
        update_memory_bank: bool = False,
    ):
        if not isinstance(switch_epoch, int) or switch_epoch < 1:
            raise ValueError(
                f'CTCStageHook.switch_epoch={switch_epoch!r}: write a whole '
                'number above 0'
            )
        self.switch_epoch = switch_epoch
        self.weight_decay_factor = weight_decay_factor
        self.update_memory_bank = update_memory_bank
        self._weight_decay: list[float] = []
        self._said = 0

    def before_run(self, runner: Runner) -> None:
        """Check the run, before anything is loaded."""
        if not isinstance(runner.optim_wrapper, OptimWrapper):
            return  # a test, which builds none
        model = unwrap(runner.model)
        if not isinstance(model, TwoStageModel):
            raise ValueError(
                f'CTCStageHook: the model is {type(model).__name__}; write '
                "model=dict(type='mmlocal.CTCClassifier', ...) with "
                "head=dict(type='mmlocal.CTCHead', ...), or leave the hook "
                'out'
            )
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise ValueError(
                f'CTCStageHook counts epochs, which {type(loop).__name__} '
                'does not: write train_cfg=dict(by_epoch=True, '
                'max_epochs=...)'
            )
        if self.switch_epoch > loop.max_epochs:
            raise ValueError(
                f'CTCStageHook.switch_epoch={self.switch_epoch}, but the run '
                f'has {loop.max_epochs} epochs: write at most '
                f'{loop.max_epochs}, with which there is no second stage, '
                'or a larger train_cfg.max_epochs'
            )
        model.begin_training(class_of_each_image(loop.dataloader.dataset))
        groups = runner.optim_wrapper.optimizer.param_groups
        self._weight_decay = [group['weight_decay'] for group in groups]

    def before_train(self, runner: Runner) -> None:
        """See that what is resumed in the second stage has a snapshot."""
        model = unwrap(runner.model)
        if runner.epoch > self.switch_epoch and not model.info_bank.taken:
            raise ValueError(
                f'resume: the checkpoint of epoch {runner.epoch} has no '
                f'snapshot, which CTCStageHook.switch_epoch='
                f'{self.switch_epoch} takes earlier. Write switch_epoch='
                f'{runner.epoch} or more.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the stage; switch if the second one begins."""
        model = unwrap(runner.model)
        stage = 1 if runner.epoch < self.switch_epoch else 2
        model.stage = stage
        decay = self._set_weight_decay(runner, stage)
        if runner.epoch == self.switch_epoch:
            model.take_snapshot()
            if is_distributed():
                average_statistics(model.info_bank)
            _forget_losses(runner)
        if stage != self._said:
            runner.logger.info(f'CTC: stage {stage}, weight decay {decay:g}.')
            self._said = stage
        if runner.epoch == self.switch_epoch and self.update_memory_bank:
            for data in runner.train_dataloader:
                model.fill_memories(data)
            runner.logger.info('CTC: memories filled from the snapshot.')

    def before_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
    ) -> None:
        """Let the draw follow from the iteration alone."""
        # A hash of whole numbers is the same in each process.
        seed = hash((runner.seed, runner.iter, get_rank()))
        unwrap(runner.model).seed_draw(seed)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the memories, before a checkpoint has them."""
        unwrap(runner.model).write_memories()

    def _set_weight_decay(self, runner: Runner, stage: int) -> float:
        factor = self.weight_decay_factor if stage == 1 else 1.0
        groups = runner.optim_wrapper.optimizer.param_groups
        for group, decay in zip(groups, self._weight_decay, strict=True):
            group['weight_decay'] = decay * factor
        return factor * max(self._weight_decay)


def _forget_losses(runner: Runner) -> None:
    """Keep those of the first stage out of the second one's log."""
    scalars = runner.message_hub.log_scalars
    for key in [key for key in scalars if 'loss' in key]:
        del scalars[key]


def class_of_each_image(dataset: torch.utils.data.Dataset) -> Tensor:
    """The labels of a training set, by ``sample_idx``; (N, ) int64.

    Args:
        dataset (Dataset): Of mmpretrain. In wrappers that repeat or choose
            images, the data set inside, whose numbers the images keep.

    Raises:
        ValueError: If it is made of several data sets, whose numbers are the
            same, or does not tell its labels.
    """
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if hasattr(dataset, 'datasets'):
        raise ValueError(
            'CTCStageHook: train_dataloader.dataset is '
            f'{type(dataset).__name__}, in which images of different parts '
            'have the same sample_idx: write a single data set'
        )
    if not hasattr(dataset, 'get_gt_labels'):
        raise ValueError(
            'CTCStageHook: train_dataloader.dataset is '
            f'{type(dataset).__name__}, which has no get_gt_labels(): write '
            'a data set of mmpretrain with one label an image'
        )
    return torch.as_tensor(dataset.get_gt_labels()).long()
