"""What pieces of a network take, as figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A piece of the backbone between two neighbouring cut points, in bytes.

    Attributes:
        entry (int): In memory before its forward, without gradients of
            weights, if everything before has trained.
        saved (int): Kept by its forward.
        forward (int): Peak of its forward, above ``entry``.
        backward (int): Peak of its backward, above ``entry``, if its output
            is in memory all the time, as it is where a module ends: the
            forward holds it; the gradient that it is given counts.
        gradients (int): Of its weights.
        recompute (int): FLOPs that its backward runs again.
        freed (dict[int, int]): What its forward lets go of, by the unit that
            made it (-1: what comes before the backbone).
        held (dict[int, int]): What the forward itself, and no graph, holds
            at its end, by the unit that made it.
        inner (int): As ``backward``, with the output in memory only as long
            as a graph needs it: inside of a module.
        kept (int): Of ``saved`` what is left once the forward is over.
        side (int): Bytes of the gradient of its output that heads behind the
            backbone hand back, and that waits until its turn comes.
        input_flops (int): FLOPs of the gradient of its input, which a module
            that begins with it does without.
        trains (bool): Whether it or a unit before has weights that train.
    """

    entry: int
    saved: int
    forward: int
    backward: int
    gradients: int
    recompute: int
    freed: dict[int, int]
    held: dict[int, int]
    inner: int = 0
    kept: int = 0
    side: int = 0
    input_flops: int = 0
    trains: bool = True


@dataclass(frozen=True)
class Head:
    """A local head at a cut point, in bytes.

    Attributes:
        peak (int): Of its forward and backward, above what is in memory when
            it starts.
        gradients (int): Of its weights.
        static (int): Weights, buffers and optimizer state.
        kept (int): What stays in memory until the end of the forward.
        flops (int): Of its forward and backward.
        needs_gradient (bool): Whether it asks for the gradient of the next
            module's input.
    """

    peak: int = 0
    gradients: int = 0
    static: int = 0
    kept: int = 0
    flops: int = 0
    needs_gradient: bool = False


@dataclass(frozen=True)
class Tail:
    """What follows the last cut point, with the network's own heads.

    Attributes:
        entry, gradients, recompute, freed, input_flops: As of a
            :class:`Unit`.
        saved (int): Kept by its forward.
        forward (int): Peak of its forward, above ``entry``.
        backward (int): Peak of its backward, above ``entry``.
        alone (int): As ``backward``, without the gradients of ``sides``.
        sides (list[Side]): Outputs of earlier units that its heads read.
    """

    entry: int
    saved: int
    forward: int
    backward: int
    alone: int
    gradients: int
    recompute: int
    freed: dict[int, int]
    sides: list[Side]
    input_flops: int = 0


@dataclass(frozen=True)
class Side:
    """An output of an earlier unit that the network's own heads read.

    Attributes:
        unit (int): Which made it.
        size (int): Bytes of the gradient that comes back, if no cut lies in
            between.
        flops (int): Of that gradient.
    """

    unit: int
    size: int
    flops: int = 0
