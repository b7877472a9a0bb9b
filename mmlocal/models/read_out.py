"""What local heads predict, module by module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmlocal.step import Stopped

from .local_heads.base import LocalHead


class ReadOut:
    """Collects the predictions of local heads while a forward runs.

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

    def begin(self, inputs: Tensor) -> None:
        """Start with a forward."""
        self.inputs = inputs
        self.found.append([])

    def at_boundary(self, index: int, feat: Tensor) -> Tensor:
        """Let a head predict; the feature goes on as it is.

        Raises:
            Stopped: Behind ``stop_behind``.
        """
        if index < len(self.heads):
            self.found[-1].append(self._predict(self.heads[index], feat))
        if index == self.stop_behind:
            raise Stopped
        return feat

    def _predict(self, head: LocalHead, feat: Tensor) -> dict[str, Any]:
        if not self.logits_only:
            return head.predict(feat, self.inputs)
        logits = head.logits(feat, self.inputs)
        return {} if logits is None else {'logits': logits}
