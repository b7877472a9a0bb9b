"""What one training step takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmlocal.models.cut_points import Split

from .recorder import Moment


@dataclass
class StepReport:
    """What one training step takes.

    Attributes:
        split (Split): How the network was cut.
        batch_size (int): Images.
        peak (int): Bytes.
        bands (dict[str, int]): What the peak is made of, bytes.
        flops (dict[str, int]): Of 'forward', 'recompute' and 'backward'.
        course (list[Moment]): Of the step; empty unless asked for.
        unread (dict[str, int]): Outputs of the backbone that no head reads,
            though they stay in memory, and their bytes.
        guessed (list[str]): Operators without a fake implementation.
    """

    split: Split
    batch_size: int
    peak: int
    bands: dict[str, int]
    flops: dict[str, int]
    course: list[Moment] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    guessed: list[str] = field(default_factory=list)

    @property
    def total_flops(self) -> int:
        """Of the whole step."""
        return sum(self.flops.values())
