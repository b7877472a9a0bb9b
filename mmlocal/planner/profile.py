"""What each piece of a network takes on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .pieces import Pieces
from .simulator import Simulator
from .units import Head, Tail, Unit
from .whole import Alone, Whole


@dataclass
class Profile:
    """One step, piece by piece, in one mode of checkpointing.

    Attributes:
        names (list[str]): Cut points; unit i ends before ``names[i]``.
        units (list[Unit]): One a cut point.
        heads (list[Head]): The local head at each; empty if left out.
        tail (Tail): Behind the last cut point.
        peak (int): Of the step without cuts.
        passes (int): How often a step runs the backbone with gradient, as
            for two views of an image.
        pixels (int): Bytes that heads share once one has run.
        update (int): Peak of the optimizer step, above weights, states and
            gradients.
    """

    names: list[str]
    units: list[Unit]
    heads: list[Head]
    tail: Tail
    peak: int
    passes: int
    pixels: int
    update: int


def profile(
    simulator: Simulator, mode: str | None, heads: bool = True
) -> Profile:
    """Run fake steps in which each unit trains on its own, and one uncut.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing, for all blocks.
        heads (bool): Whether to run the local heads, too, and count what
            modules do without; neither depends on the mode. Defaults to
            True.
    """
    pieces = Pieces(simulator, mode, heads)
    pieces.run()
    whole = Whole(simulator, mode)
    whole.run()
    units, tail = pieces.units, pieces.tail
    if pieces.passes > 1:
        # Their graphs are in memory together; take what each alone takes.
        whole.inner = [unit.backward for unit in units]
        whole.kept = [unit.saved for unit in units]
        whole.sides = [0] * len(units)
        whole.flops = pieces.flops
    if heads:
        units, tail = _with_savings(simulator, mode, units, tail, whole.flops)
    units = [
        replace(unit, inner=inner, kept=kept, side=side)
        for unit, inner, kept, side in zip(
            units, whole.inner, whole.kept, whole.sides, strict=True
        )
    ]
    return Profile(
        list(simulator.candidates),
        units,
        pieces.heads,
        tail,
        whole.recorder.peak,
        pieces.passes,
        pieces.pixels,
        pieces.update,
    )


def _with_savings(
    simulator: Simulator,
    mode: str | None,
    units: list[Unit],
    tail: Tail,
    flops: list[int],
) -> tuple[list[Unit], Tail]:
    """Note the gradients that modules do without.

    Args:
        simulator (Simulator): Of the config.
        mode (str, optional): Of checkpointing.
        units (list[Unit]): Without it.
        tail (Tail): Without it.
        flops (list[int]): Of the backward of each, inside of a module.
    """
    alone = Alone(simulator, mode)
    alone.run()
    pairs = zip(flops, alone.flops, strict=True)
    saved = [inside - without for inside, without in pairs]
    sides = []
    for number, side in enumerate(tail.sides):
        if side.size:
            reads = Alone(simulator, mode, side=number)
            reads.run()
            more = reads.flops[-1] - alone.flops[-1]
            saved[-1] -= more
            side = replace(side, flops=more)
        sides.append(side)
    units = [
        replace(unit, input_flops=more)
        for unit, more in zip(units, saved, strict=False)
    ]
    return units, replace(tail, sides=sides, input_flops=saved[-1])
