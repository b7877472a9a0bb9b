"""The modules of a cut backbone, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

import torch
from mmengine.model import ModuleList
from torch import Tensor, nn

from mmlocal.step import Stopped

from .blocks import innermost_blocks
from .calls import Calls
from .chain import Chain
from .checkpointing import again_in_backward
from .cut_forward import cut_forward
from .freezing import FrozenModules
from .graph import Crossing
from .module_parts import ModuleParts
from .read_out import ReadOut
from .structure import flatten, floats


class ModuleAccess:
    """What loops and metrics do with single modules of a backbone.

    The base of :class:`LocalSupervisedBackbone`, which says where it is cut.

    Attributes:
        backbone (nn.Module): What is cut.
        boundaries (list[str]): Where.
        local_heads (ModuleList): Of the modules.
        local_end (bool): Whether the last module has one.
        input_shape (tuple[int, ...]): Of one input.
    """

    backbone: nn.Module
    boundaries: Sequence[str]
    local_heads: ModuleList
    local_end: bool
    input_shape: tuple[int, ...]
    _parts: ModuleParts
    crossings: dict[str, Crossing]
    _only: int | None = None
    _entry: tuple[int, Tensor | None] | None = None
    _readout: ReadOut | None = None
    _frozen: FrozenModules | None = None

    @property
    def num_modules(self) -> int:
        """K."""
        return len(self.boundaries) + 1

    @property
    def module_heads(self) -> dict[int, nn.Module]:
        """Local heads by the number of the module that they train."""
        return dict(enumerate(self.local_heads))

    @property
    def boundary_modules(self) -> dict[str, nn.Module]:
        """The first submodule of each module but the first, by name."""
        get = self.backbone.get_submodule
        return {name: get(name) for name in self.boundaries}

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """The backbone's innermost blocks, by name."""
        get = self.backbone.get_submodule
        return {name: get(name) for name in innermost_blocks(self.backbone)}

    def module_weights(self, index: int) -> list[nn.Parameter]:
        """The weights of one module and of its local head."""
        owners, last = self._parts.weights, self.num_modules - 1
        weights = [
            weight
            for name, weight in self.backbone.named_parameters()
            if owners.get(name, last) == index
        ]
        if index in self.module_heads:
            weights += self.module_heads[index].parameters()
        return weights

    def module_state(self, index: int) -> dict[str, Tensor]:
        """Weights and buffers of one module, without its local head."""
        return {
            name: value
            for name, value in self.backbone.state_dict().items()
            if self._parts.owner(name) in (index, None)
        }

    def run_module(
        self, index: int, feat: Tensor, recompute: bool = False
    ) -> Tensor:
        """A module's output from its input; trains nothing.

        Args:
            index (int): Of the module, from 0.
            feat (Tensor): What it takes in; the images, for the first.
            recompute (bool): Keep the input alone and run again in backward.
                Defaults to False.

        Raises:
            ValueError: If the backbone is no chain.
        """
        run = partial(self.chain.run, index)
        if recompute:
            return again_in_backward(run, feat, self.backbone)
        return run(feat)

    @cached_property
    def calls(self) -> Calls:
        """What submodules take and return."""
        return Calls(self.backbone, self.input_shape)

    @property
    def only(self) -> int | None:
        """The one module that trains, see :meth:`train_only`; None: all."""
        return self._only

    @cached_property
    def chain(self) -> Chain:
        """The modules as callables.

        Raises:
            ValueError: If the backbone is no chain.
        """
        return Chain(self.backbone, self.boundaries, self.calls)

    def check_chain(self) -> None:
        """See that each module runs from its input alone.

        Raises:
            ValueError: If the backbone is no chain; names the gap.
        """
        _ = self.chain

    def train(self, mode: bool = True) -> ModuleAccess:
        """As of any module; what :meth:`train_only` froze stays in eval."""
        super().train(mode)
        if self._frozen is not None:
            self._frozen.eval()
        return self

    def train_only(
        self, index: int | None, moving_statistics: bool = False
    ) -> None:
        """Train one module, and end each forward behind it.

        The others are frozen, with their local heads: no gradient, and eval
        mode also through :meth:`train`. Training the last module the forward
        goes on to the model's own head, in any other it ends with
        :class:`mmlocal.step.Stopped`.

        Args:
            index (int, optional): Of the module, from 0. None trains all; K,
                with ``local_end``, none of them, so that the model's own
                head trains alone.
            moving_statistics (bool): Leave the modules before it in train
                mode: their running statistics move and their dropout is
                active, while their weights stay. Defaults to False.

        Raises:
            ValueError: If there is no such module, or a head needs the
                gradient of the module behind it or the store of those before.
        """
        if index is not None and not self._is_end(index):
            self._check_alone(index)
        if self._frozen is not None:
            self._frozen.release()
        self._frozen, self._only = None, index
        if index is not None:
            self._frozen = FrozenModules(
                self.backbone,
                self._parts,
                self.local_heads,
                index,
                moving_statistics,
            )
        self.train(self.training)

    @contextmanager
    def alone(self, index: int, feat: Tensor | None = None) -> Iterator[None]:
        """In here a forward in training runs one module.

        It ends with :class:`mmlocal.step.Stopped` behind that module, or
        goes on to the model's own head behind the last one.

        Args:
            index (int): Of the module, from 0.
            feat (Tensor, optional): What it takes in; the forward's own
                input is not looked at then. Not for the first module, which
                takes that.

        Raises:
            ValueError: If there is no such module, a head needs the gradient
                of the module behind it or the store of those before, or the
                backbone is no chain.
        """
        self._check_alone(index)
        if (feat is None) != (index == 0):
            raise ValueError(
                f'module {index} takes '
                + ("the forward's own input" if index == 0 else 'a feature')
            )
        self._entry = (index, feat)
        try:
            yield
        finally:
            self._entry = None

    @contextmanager
    def reading_out(
        self, stop_behind: int | None = None, logits_only: bool = False
    ) -> Iterator[list[list[dict[str, Any]]]]:
        """In here forwards train nothing, and local heads predict.

        Inside of another such context that one counts, and goes on to
        collect.

        Args:
            stop_behind (int, optional): End each forward behind this module,
                with :class:`mmlocal.step.Stopped`, unless it is the last.
            logits_only (bool): Compute nothing but ``logits``. Defaults to
                False.

        Yields:
            list[list[dict]]: For each forward, :meth:`LocalHead.predict` of
            each head that it reached.
        """
        if stop_behind == self.num_modules - 1:
            stop_behind = None
        outer = self._readout
        self._readout = outer or ReadOut(
            self.local_heads, stop_behind, logits_only
        )
        try:
            yield self._readout.found
        finally:
            self._readout = outer

    @torch.no_grad()
    def predict_local(self, x: Tensor) -> list[dict[str, Any]]:
        """What each local head sees in its module's output.

        Args:
            x (Tensor): Preprocessed images (N, C, H, W).

        Returns:
            list[dict]: :meth:`LocalHead.predict` of each head in turn; of
            those up to ``stop_behind`` inside of :meth:`reading_out`.
        """
        with self.reading_out() as found, suppress(Stopped):
            self(x)
        return found[-1]

    def _is_end(self, index: int | None) -> bool:
        """Whether this is what lies behind the last module."""
        return self.local_end and index == self.num_modules

    def _check_alone(self, index: int) -> None:
        if not 0 <= index < self.num_modules:
            raise ValueError(
                f'there is no module {index}: the backbone has '
                f'{self.num_modules}, from 0.'
            )
        for head in self.local_heads:
            if head.needs_gradient:
                raise ValueError(
                    f'local_heads: {type(head).__name__} needs the gradient '
                    'of the module behind its own, which is not there when '
                    'modules train one at a time: train all at once '
                    "(train_cfg.type='EpochBasedTrainLoop'), or choose "
                    'another head.'
                )
            if head.needs_store:
                raise ValueError(
                    f'local_heads: {type(head).__name__} needs what the '
                    'heads of the modules before have found out in the same '
                    'step, and they do not run when modules train one at a '
                    "time: train all at once (train_cfg.type='EpochBased"
                    "TrainLoop'), or choose another head."
                )

    def _run(
        self,
        args: tuple,
        kwargs: dict[str, Any],
        at_boundary: Callable[[int, Tensor], Tensor] | None = None,
    ) -> Any:
        """Run the backbone; ``at_boundary(index, feat)`` replaces feat."""
        if self._entry is not None and self._entry[0] > 0:
            return self._run_from(*self._entry, at_boundary or _same)
        if at_boundary is None:
            return self.backbone(*args, **kwargs)
        if runs_modules(self.local_heads):
            # Hooks would fire again where a head runs its module.
            return self._run_from(0, first_tensor(args, kwargs), at_boundary)
        cuts = [self.crossings[name] for name in self.boundaries]
        return cut_forward(self.backbone, cuts, args, at_boundary, kwargs)

    def _run_from(
        self,
        first: int,
        feat: Tensor,
        at_boundary: Callable[[int, Tensor], Tensor],
    ) -> Any:
        last = self.num_modules - 1
        for index in range(first, last):
            feat = at_boundary(index, self.chain.run(index, feat))
        return self.chain.finish(feat)

    def _read_out(
        self, args: tuple, kwargs: dict[str, Any], readout: ReadOut
    ) -> Any:
        readout.begin(first_tensor(args, kwargs), self.run_module)
        outputs = self._run(args, kwargs, readout.at_boundary)
        if self.local_end:
            readout.at_boundary(self.num_modules - 1, last_tensor(outputs))
        return outputs


def _same(index: int, feat: Tensor) -> Tensor:
    return feat


def runs_modules(heads: Sequence[nn.Module]) -> bool:
    """Whether local heads run modules themselves."""
    return any(head.runs_module for head in heads)


def first_tensor(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The images among a backbone's arguments."""
    return next(iter(floats((args, kwargs)).values()))


def last_tensor(outputs: Any) -> Tensor:
    """The last of a backbone's outputs."""
    return [out for out in flatten(outputs) if isinstance(out, Tensor)][-1]
