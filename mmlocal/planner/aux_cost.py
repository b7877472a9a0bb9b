"""What local heads cost beside the modules that they train."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.flop_counter import flop_registry

from mmlocal.config import is_wrapped
from mmlocal.fake_tensors import (
    FakeOps,
    FakeTensorMode,
    fake_copy,
    fake_mode,
    tensors_of,
    uninitialized_weights,
)
from mmlocal.models.backbones import LocalSupervisedBackbone
from mmlocal.models.freed_outputs import graph_nodes
from mmlocal.planner.batch import (
    batch_size_of,
    image_size_of,
    make_batch,
    task_of,
)
from mmlocal.step import LocalStep, activate


@dataclass
class ModuleCost:
    """A module beside its local head.

    Attributes:
        begin (str): Its first submodule; '' for the first module.
        macs (float): Multiply-accumulates of its forward, an image, in
            convolutions, matrix products and attention.
        params (int): Parameters that its output depends on.
        head_macs (float, optional): Of the local head, with its loss; None
            without one.
        head_params (int, optional): Its parameters that are trained.
    """

    begin: str
    macs: float
    params: int
    head_macs: float | None = None
    head_params: int | None = None


def aux_cost(cfg: dict) -> list[ModuleCost]:
    """Count one training forward of a config, on fake tensors.

    Args:
        cfg (dict): With ``model``, ``default_scope`` and
            ``train_dataloader``.

    Returns:
        list[ModuleCost]: In the order of the forward. The model's own head
        is part of no module.

    Raises:
        ValueError: If the config has no local heads, or does not say how
            large its images are.
    """
    task, size = task_of(cfg['model']), batch_size_of(cfg)
    image_size = image_size_of(cfg)
    mode = fake_mode()
    model = _build(cfg, mode)
    with mode, _MacCounter(mode) as counter:
        channels = model.backbone.input_shape[0]
        batch = make_batch(task, size, image_size, channels)
        batch = model.data_preprocessor(batch, True)
        meter = _Meter(model.backbone, counter, size)
        step = LocalStep(backward=meter.head_ends)
        step.capture(model, (), batch)
        with activate(step):
            model.backbone(batch['inputs'])
    return meter.costs


def total(costs: Iterable[ModuleCost]) -> ModuleCost:
    """The sum over the modules that have a local head."""
    rows = [cost for cost in costs if cost.head_macs is not None]
    return ModuleCost(
        'sum',
        sum(row.macs for row in rows),
        sum(row.params for row in rows),
        sum(row.head_macs for row in rows),
        sum(row.head_params for row in rows),
    )


class _MacCounter(FakeOps):
    """Counts what the operators that it runs multiply."""

    def __init__(self, mode: FakeTensorMode):
        super().__init__(mode)
        self.macs = 0

    def run(self, func: Any, args: tuple, kwargs: dict) -> Any:
        out = super().run(func, args, kwargs)
        flops = flop_registry.get(func._overloadpacket)
        if flops is not None:
            self.macs += flops(*args, **kwargs, out_val=out) // 2
        return out


class _Meter:
    """Assigns what is counted to modules and heads.

    A module ends where the forward reaches the next one's first submodule,
    or the end of the backbone; its head, where the loss is propagated. No
    loss is: its graph costs nothing here.
    """

    def __init__(
        self,
        backbone: LocalSupervisedBackbone,
        counter: _MacCounter,
        size: int,
    ):
        self.costs: list[ModuleCost] = []
        self._begins = ['', *backbone.boundaries]
        self._heads = backbone.local_heads
        self._counter, self._size = counter, size
        self._last = counter.macs
        self._seen: set[Node] = set()
        self._counted: set[Tensor] = set()
        inner = backbone.backbone
        inner.register_forward_pre_hook(self._backbone_begins)
        inner.register_forward_hook(self._backbone_ends)

    def head_ends(self, loss: Tensor) -> None:
        """In place of the backward of a module's loss."""
        index = len(self.costs) - 1
        self.costs[index].head_macs = self._lap()
        self.costs[index].head_params = sum(
            parameter.numel()
            for parameter in self._heads[index].parameters()
            if parameter.requires_grad
        )

    def _backbone_begins(self, inner: nn.Module, args: Any) -> None:
        # Now, to come before the hooks that train a module at its end.
        for name in self._begins[1:]:
            inner.get_submodule(name).register_forward_pre_hook(
                self._next_begins, prepend=True, with_kwargs=True
            )

    def _next_begins(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._module_ends(tensors_of((args, kwargs)))

    def _backbone_ends(self, module: nn.Module, args: Any, out: Any) -> None:
        self._module_ends(tensors_of(out))

    def _module_ends(self, outputs: list[Tensor]) -> None:
        nodes: set[Node] = set()
        for output in outputs:
            nodes |= graph_nodes(output, self._seen | nodes)
        self._seen |= nodes
        params = {
            parent.variable
            for node in nodes
            for parent, _ in node.next_functions
            if hasattr(parent, 'variable')
        }
        params -= self._counted
        self._counted |= params
        self.costs.append(
            ModuleCost(
                self._begins[len(self.costs)],
                self._lap(),
                sum(parameter.numel() for parameter in params),
            )
        )

    def _lap(self) -> float:
        since, self._last = self._last, self._counter.macs
        return (self._last - since) / self._size


def _build(cfg: dict, mode: FakeTensorMode) -> nn.Module:
    """The model of a config, in training, on fake tensors."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    model_cfg = deepcopy(cfg['model'])
    model_cfg.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    if not is_wrapped(model_cfg['backbone']):
        raise ValueError(
            f'model.backbone is {model_cfg["backbone"]["type"]}, which has '
            'no local heads: give a config of local training, with '
            "model.backbone=dict(type='mmlocal.LocalSupervisedBackbone', "
            '...)'
        )
    with uninitialized_weights():
        model = revert_sync_batchnorm(MODELS.build(model_cfg))
    if not len(model.backbone.local_heads):
        raise ValueError(
            'model.backbone.boundaries is empty: there is one module, and '
            'no local head. Write the first block of each next module, as '
            "['layer3.0']"
        )
    model.train()
    # Frozen layers have parameters, too.
    model.backbone.backbone.requires_grad_(True)
    return fake_copy(model, mode)
