"""Where features are read: behind each module, or behind any submodule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmlocal.models.cut_forward import cut_forward
from mmlocal.models.graph import Crossing
from mmlocal.models.module_access import last_tensor
from mmlocal.models.structure import flatten
from mmlocal.step import local_backbone


class Taps:
    """Reads what modules put out while a backbone runs.

    Without names these are the modules of a cut backbone; a backbone that is
    not cut counts as one module. The last one ends with the backbone's last
    output. Nothing changes in the model; nothing of a head runs.

    Args:
        model (nn.Module): A model of mmseg or mmpretrain, trained locally or
            end to end, or a backbone.
        boundaries (Sequence[str], optional): Names of submodules of the
            backbone, each the first of a next module, as in
            ``model.backbone.boundaries``: to look at an end-to-end model
            where a local one is cut.
        outputs (Sequence[str], optional): Names of submodules of the backbone
            whose output is read instead, in forward order.

    Attributes:
        names (list[str]): ``module 1`` to ``module K``, or ``outputs``.

    Raises:
        ValueError: If both are given, or the backbone has no such submodule.

    Example:
        >>> taps = Taps(model, outputs=['layer1', 'layer2'])
        >>> first, second = taps(images)
    """

    def __init__(
        self,
        model: nn.Module,
        boundaries: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ):
        if boundaries is not None and outputs is not None:
            raise ValueError('write boundaries or outputs, not both.')
        local = local_backbone(model)
        if local is not None:
            self.backbone = local.backbone
            own = list(local.boundary_modules)
        else:
            self.backbone, own = getattr(model, 'backbone', model), []
        self.boundaries = own if boundaries is None else list(boundaries)
        self.outputs = None if outputs is None else list(outputs)
        if self.outputs is None:
            count = len(self.boundaries) + 1
            self.names = [f'module {i + 1}' for i in range(count)]
        else:
            self.names = list(self.outputs)
        for name in self.outputs or self.boundaries:
            self._submodule(name)
        crossings = {} if local is None else local.crossings
        self._cuts = [
            crossings.get(name, Crossing(name)) for name in self.boundaries
        ]

    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        read: Callable[[Tensor], Any] = Tensor.clone,
    ) -> list[Any]:
        """Run the backbone on preprocessed images.

        Args:
            x (Tensor): (N, C, H, W), or (N, C, L).
            read (Callable): Is given each feature as soon as it is there,
                before a later layer can write into its memory. Defaults to
                a copy.

        Returns:
            list: What ``read`` returns, one for each of :attr:`names`.

        Raises:
            ValueError: If a submodule puts out several tensors, or is not
                reached.
        """
        found: dict[str, Any] = {}

        def keep(name: str, feat: Tensor) -> None:
            # Of a submodule that is called again, the last call counts.
            found[name] = read(feat.detach())

        if self.outputs is None:
            self._run_cut(x, keep)
        else:
            self._run_hooked(x, keep)
        missing = [name for name in self.names if name not in found]
        if missing:
            raise ValueError(
                f'the backbone never reached {", ".join(missing)}: choose '
                'submodules that its forward calls.'
            )
        return [found[name] for name in self.names]

    def _run_cut(self, x: Tensor, keep: Callable[[str, Tensor], None]) -> None:
        def at_boundary(index: int, feat: Tensor) -> Tensor:
            keep(self.names[index], feat)
            return feat

        outputs = cut_forward(self.backbone, self._cuts, (x,), at_boundary)
        keep(self.names[-1], last_tensor(outputs))

    def _run_hooked(
        self, x: Tensor, keep: Callable[[str, Tensor], None]
    ) -> None:
        def hook(name: str, module: nn.Module, args: tuple, out: Any) -> None:
            tensors = [each for each in flatten(out) if _is_feature(each)]
            if len(tensors) != 1:
                raise ValueError(
                    f'{name} puts out {len(tensors)} tensors of features: '
                    'choose a submodule with one.'
                )
            keep(name, tensors[0])

        handles = [
            self._submodule(name).register_forward_hook(partial(hook, name))
            for name in self.names
        ]
        try:
            self.backbone(x)
        finally:
            for handle in handles:
                handle.remove()

    def _submodule(self, name: str) -> nn.Module:
        # By name at each run: SyncBN conversion and the like replace them.
        try:
            return self.backbone.get_submodule(name)
        except AttributeError:
            known = [known for known, _ in self.backbone.named_modules()]
            close = get_close_matches(name, known, n=3)
            hint = ' or '.join(map(repr, close)) or ', '.join(
                child for child, _ in self.backbone.named_children()
            )
            raise ValueError(
                f'the backbone has no submodule {name!r}; did you mean {hint}?'
            ) from None


def _is_feature(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
