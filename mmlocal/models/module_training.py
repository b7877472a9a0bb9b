"""How the modules of a backbone are trained while its forward runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import Node

from mmlocal.step import LocalStep, Stopped, activate

from .freed_outputs import graph_nodes
from .local_heads.base import LocalHead


class ModuleTraining:
    """Trains the modules that one forward reaches the end of.

    Args:
        heads (Sequence[LocalHead]): Of the modules.
        step (LocalStep): The training step.
        only (int, optional): The one module to train: those before it pass
            their features on as they are, and the forward ends behind it,
            unless there is no other. Defaults to None, all.

    Attributes:
        finished (set[Node]): The graphs that have been freed.
    """

    def __init__(
        self,
        heads: Sequence[LocalHead],
        step: LocalStep,
        only: int | None = None,
    ):
        self.heads = heads
        self.step = step
        self.only = only
        self.finished: set[Node] = set()
        self._prefix = step.prefixes.get(id(heads), '')
        step.store = {}

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """Train a module on its output; what the next one gets.

        Raises:
            Stopped: Behind the only module to train.
        """
        if self.only is not None and index < self.only:
            passed = feat.detach()
        else:
            passed = self.train(index, feat)
            if index == self.only:
                raise Stopped(passed)
        self.step.module_input = passed
        return passed

    def train(self, index: int, feat: Tensor) -> Tensor:
        """Propagate the losses at the end of a module.

        Args:
            index (int): Of the module.
            feat (Tensor): Its output, attached to its graph.

        Returns:
            Tensor: What the next module gets.
        """
        if index >= len(self.heads):
            raise ValueError(
                'model.backbone.local_heads=[]: the modules have no loss of '
                "their own: write a local head, as dict(type='mmlocal."
                "GreedyHead', num_classes=10), or train them by "
                "train_cfg.type='mmlocal.DelayedGradientTrainLoop' (without "
                'local_end).'
            )
        head, step = self.heads[index], self.step
        check_graph(head.boundary.name)
        # Whoever waits for the feature gets it before the loss is computed.
        is_known = type(head).pass_on is LocalHead.pass_on
        if is_known and step.pass_on is not None:
            step.pass_on(feat.detach())
        self.finished.update(graph_nodes(feat, self.finished))
        loss = self._total(index, _losses(head, feat, step))
        step.backward(loss)
        del loss
        passed = head.pass_on(feat)
        if passed.requires_grad:
            raise ValueError(
                f'{type(head).__name__}.pass_on returned a feature with a '
                'graph, so that the next module would train this one: '
                'detach it.'
            )
        if not is_known and step.pass_on is not None:
            step.pass_on(passed)
        if head.needs_gradient:
            passed = ask_for_gradient(passed, self._feedback(index))
        return passed

    def _feedback(self, index: int) -> Callable[[Tensor], None]:
        head = self.heads[index]
        # Before the step is that of another forward; features are not kept.
        step = replace(self.step, module_input=None)

        def feed_back(grad: Tensor) -> None:
            # Autograd may call this in a thread of its own.
            with activate(step), torch.enable_grad():
                losses = head.feedback(grad)
                if losses:
                    step.propagate(self._total(index, losses))

        return feed_back

    def _total(self, index: int, losses: dict[str, Tensor]) -> Tensor:
        """Note all values in the log; the sum of the losses among them."""
        values = {key: _mean(value) for key, value in losses.items()}
        local = [value for key, value in values.items() if 'loss' in key]
        if not local:
            raise ValueError(
                f'the local head at {self.heads[index].boundary.name!r} '
                f"returned no key that contains 'loss', but {sorted(values)}."
            )
        for key, value in values.items():
            key = f'{self._prefix}local_{index}.{key}'
            self.step.log[key] = value.detach()
        return sum(local)


def _losses(
    head: LocalHead, feat: Tensor, step: LocalStep
) -> dict[str, Tensor]:
    try:
        return head.loss(feat, step.inputs, step.data_samples)
    except ValueError as error:
        if 'more than 1 value per channel' not in str(error):
            raise
        raise ValueError(
            f'the local head at {head.boundary.name!r} normalizes over a '
            'batch with a single value a channel: raise '
            'train_dataloader.batch_size to 2 or more, set '
            'train_dataloader.drop_last=True if only the last batch is that '
            'small, or choose a head without BatchNorm after pooling '
            "(local_heads.net='linear')."
        ) from error


def check_graph(name: str) -> None:
    """Raise where the forward of a training step builds no graph.

    Args:
        name (str): Of the submodule that comes next.

    Raises:
        ValueError: If a reversible backbone computes its backward itself.
    """
    if not torch.is_grad_enabled():
        raise ValueError(
            f'model.backbone: before {name!r} the forward runs without '
            'gradient in training, because the backbone computes its backward '
            'itself: switch that off (no_custom_backward=True of '
            'RevVisionTransformer), or cut elsewhere.'
        )


def ask_for_gradient(
    feat: Tensor, receive: Callable[[Tensor], None] | None = None
) -> Tensor:
    """A feature whose gradient is computed, handed over, and goes no further.

    A leaf that requires grad would be kept by the nodes of the graph behind
    it, and this graph by whoever looks at finished modules.

    Args:
        feat (Tensor): Detached.
        receive (Callable, optional): Is given the gradient, in backward.
    """
    anchor = torch.zeros((), device=feat.device, requires_grad=True)
    return _AskForGradient.apply(feat, anchor, receive)


class _AskForGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feat: Tensor, anchor: Tensor, receive) -> Tensor:
        ctx.receive = receive
        # No view: the next module may change its input in place.
        return feat.data

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[None, None, None]:
        if ctx.receive is not None:
            ctx.receive(grad)
        return None, None, None


def _mean(value: Tensor | Sequence[Tensor]) -> Tensor:
    """As ``BaseModel.parse_losses`` reads a value."""
    if isinstance(value, Tensor):
        return value.mean()
    return sum(item.mean() for item in value)
