"""What local heads predict, module by module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from mmlocal.step import LocalStep, Stopped, activate

from .local_heads.base import LocalHead


class ReadOut:
    """Collects the predictions of local heads while a forward runs.

    Each forward has a :class:`LocalStep`, in which heads find the module and
    its input, and what those before them have stored.

    Args:
        heads (Sequence[LocalHead]): Of the modules.
        stop_behind (int, optional): End each forward behind this module.
        logits_only (bool): Leave out all but ``logits``. Defaults to False.

    Attributes:
        found (list[list[dict]]): For each forward, :meth:`LocalHead.predict`
            of each head that it reached.
    """

    def __init__(
        self,
        heads: Sequence[LocalHead],
        stop_behind: int | None = None,
        logits_only: bool = False,
    ):
        self.heads = heads
        self.stop_behind = stop_behind
        self.logits_only = logits_only
        self.found: list[list[dict[str, Any]]] = []

    def begin(
        self, inputs: Tensor, run_module: Callable[[int, Tensor], Tensor]
    ) -> None:
        """Start with a forward."""
        self.step = LocalStep(
            inputs=inputs, module_input=inputs, run_module=run_module
        )
        self.found.append([])

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """Let a head predict; the feature goes on as it is.

        Raises:
            Stopped: Behind ``stop_behind``.
        """
        if index < len(self.heads):
            with activate(self.step):
                prediction = self._predict(self.heads[index], feat)
            self.found[-1].append(prediction)
        if index == self.stop_behind:
            raise Stopped
        self.step.module_input = feat
        return feat

    def _predict(self, head: LocalHead, feat: Tensor) -> dict[str, Any]:
        if not self.logits_only:
            return head.predict(feat, self.step.inputs)
        logits = head.logits(feat, self.step.inputs)
        return {} if logits is None else {'logits': logits}
