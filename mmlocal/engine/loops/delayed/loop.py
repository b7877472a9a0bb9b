"""True gradients that come some steps late."""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmlocal.engine.optim import LocalAmpOptimWrapper
from mmlocal.registry import LOOPS
from mmlocal.step import LocalBackbone, current_step, local_backbone

from .checks import model_problems, optimizer_problems
from .module import KEEP, DelayedModule


class DelayedGradientMixin:
    """What both loops do; see :class:`DelayedGradientTrainLoop`."""

    def prepare(self, runner: Runner, keep: str) -> None:
        """Look at what is to be trained.

        Raises:
            ValueError: If the model cannot train like this.
        """
        if keep not in KEEP:
            raise ValueError(
                f'train_cfg.keep={keep!r} is unknown: write one of {KEEP}'
            )
        for problem in model_problems(runner):
            raise ValueError(problem)
        self.keep = keep
        self.backbone: LocalBackbone = local_backbone(runner.model)
        self.modules: list[DelayedModule] = []
        self._told = False

    def run(self) -> nn.Module:
        """Launch training.

        Raises:
            ValueError: If the optimizer wrapper does not fit.
        """
        for problem in optimizer_problems(self.runner):
            raise ValueError(problem)
        wrapper, last = self.runner.optim_wrapper, self._last
        self.modules = [
            DelayedModule(
                self.backbone,
                index,
                delay=last - index,
                keep=self.keep,
                skips_overflow=isinstance(wrapper, LocalAmpOptimWrapper),
            )
            for index in range(last)
        ]
        return super().run()

    def train_on(self, batch_idx: int, data_batch: Any) -> None:
        """One iteration.

        Args:
            batch_idx (int): As hooks get it.
            data_batch (Any): From the data loader.
        """
        call_hook = self.runner.call_hook
        call_hook(
            'before_train_iter', batch_idx=batch_idx, data_batch=data_batch
        )
        outputs = self.train_step(data_batch)
        self._tell_what_waits()
        call_hook(
            'after_train_iter',
            batch_idx=batch_idx,
            data_batch=data_batch,
            outputs=outputs,
        )
        self._iter += 1

    def train_step(self, data_batch: Any) -> dict[str, Tensor]:
        """Run all modules on a batch, and train each on its own oldest one.

        Args:
            data_batch (Any): From the data loader.

        Returns:
            dict[str, Tensor]: The model's losses on this batch, for the log.
        """
        model, wrapper = self.runner.model, self.runner.optim_wrapper
        with wrapper.optim_context(model):
            data = model.data_preprocessor(data_batch, True)
            feat = data['inputs']
            for module in self.modules:
                feat = module.train(feat, current_step())
            entry = feat if self.modules else None
            with self.backbone.alone(self._last, entry):
                losses = model(**data, mode='loss')
        loss, outputs = model.parse_losses(losses)
        # Of all modules: they share no weight, so that one step is as good
        # as one a module. What has no gradient yet is left as it is.
        wrapper.update_params(loss)
        return outputs

    @property
    def _last(self) -> int:
        return self.backbone.num_modules - 1

    def _tell_what_waits(self) -> None:
        if self._told or not all(module.is_full for module in self.modules):
            return
        self._told = True
        parts, total = [], {}
        for module in self.modules:
            batches, weights = module.held()
            total |= batches | weights
            parts.append(
                f'module {module.index}: mini-batches {module.delay}, '
                f'{_mib(batches)}; weights {_mib(weights)}'
            )
        if parts:
            print_log(
                f'Delayed gradients, keep={self.keep!r}, held between steps: '
                f'{". ".join(parts)}. In all {_mib(total)}, with what modules '
                'share counted once. Checkpoints do not hold it: after '
                'resuming, modules wait again as at the start.',
                logger='current',
            )


@LOOPS.register_module()
class DelayedGradientTrainLoop(DelayedGradientMixin, EpochBasedTrainLoop):
    r"""Trains modules by the true gradient, which comes late.

    `Decoupled parallel backpropagation
    <https://arxiv.org/abs/1804.10574>`_ (DDG). Of K modules, module k runs on
    the batch of step t and is trained on that of step :math:`t - K + k`,
    whose gradient the next module has computed a step ago, so that no module
    waits for the backward of another:

    .. math::
        \theta_k^{t+1} = \theta_k^t - \eta \nabla_{\theta_k}
            f(x^{t-K+k}; \theta^{t-K+k})

    Before its first gradient a module is left as it is, weight decay
    included. The last module, with the model's own neck and head, is trained
    as ever. Here modules run one after another on one device.

    Batches are kept as they come: one may be smaller than the others. The
    last K - k of a run never train module k. A checkpoint does not hold what
    waits: after resuming, module k waits for K - k steps again.

    Under a loss scale, a batch whose gradient is not finite is left out by
    each module in turn.

    Args:
        runner (Runner): Its model has a backbone that is a chain
            (:class:`mmlocal.models.chain.Chain`), cut by ``boundaries``, with
            ``local_heads=[]``.
        dataloader (DataLoader | dict): The training set.
        max_epochs (int): Epochs.
        keep (str): What a module keeps of a batch until its gradient comes:

            ``'weights'``
                Its input and a copy of the weights with which it ran. It
                runs again in backward.
            ``'graph'``
                All that backward needs, with a copy of the weights: the same
                gradients without another forward, from more memory.
            ``'input'``
                Its input. It runs again in backward, with the weights of
                today. That is `features replay
                <https://arxiv.org/abs/1807.04511>`_, which trains otherwise.

            Running statistics move once in each. Defaults to 'weights'.
        **kwargs: Passed to :class:`mmengine.runner.EpochBasedTrainLoop`.

    Raises:
        ValueError: If the setting does not fit; the message says what to
            write.

    Example:
        >>> train_cfg = dict(
        ...     type='mmlocal.DelayedGradientTrainLoop', max_epochs=300)
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_epochs: int,
        keep: str = 'weights',
        **kwargs,
    ):
        self.prepare(runner, keep)
        super().__init__(runner, dataloader, max_epochs, **kwargs)

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One iteration."""
        self.train_on(idx, data_batch)


@LOOPS.register_module()
class DelayedGradientIterTrainLoop(DelayedGradientMixin, IterBasedTrainLoop):
    """As :class:`DelayedGradientTrainLoop`, counted in iterations.

    Args:
        runner (Runner): As there.
        dataloader (DataLoader | dict): The training set.
        max_iters (int): Iterations.
        keep (str): As there. Defaults to 'weights'.
        **kwargs: Passed to :class:`mmengine.runner.IterBasedTrainLoop`.

    Raises:
        ValueError: As there.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        keep: str = 'weights',
        **kwargs,
    ):
        self.prepare(runner, keep)
        super().__init__(runner, dataloader, max_iters, **kwargs)

    def run_iter(self, data_batch: Any) -> None:
        """One iteration."""
        self.train_on(self._iter, data_batch)


def _mib(storages: dict[int, int]) -> str:
    return f'{sum(storages.values()) / 2**20:.1f} MiB'
