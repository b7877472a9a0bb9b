"""The best split of a network by what its pieces take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, product

from mmlocal.models.cut_points import Split

from .profile import Profile
from .units import Head, Unit


@dataclass(frozen=True)
class Plan:
    """A split and what it is predicted to take.

    Attributes:
        split (Split): Where to cut and what to checkpoint.
        peak (int): Bytes.
        extra_flops (int): On top of end to end: of local heads and of what
            is recomputed, less what no gradient is computed of any more, the
            inputs of modules.
    """

    split: Split
    peak: int
    extra_flops: int


@dataclass(frozen=True)
class _Label:
    """Modules laid end to end; ``ends`` are the units where they end.

    ``peak`` is the highest of them without the weights of local heads, which
    are there all the time (``static``); ``carried`` is what the next modules
    find in memory from those before: gradients and what heads kept.
    """

    flops: int
    static: int
    carried: int
    peak: int
    ends: tuple[int, ...]
    modes: tuple[str | None, ...]

    @property
    def end(self) -> int:
        return self.ends[-1] if self.ends else -1

    def costs(self) -> tuple[int, int, int, int]:
        return self.flops, self.static, self.carried, self.peak

    def is_no_better(self, other: _Label) -> bool:
        pairs = zip(self.costs(), other.costs(), strict=True)
        return all(mine >= theirs for mine, theirs in pairs)


class Search:
    """Finds the best split among all of them.

    Modules are laid end to end by dynamic programming over the cut points.
    What a module takes depends on earlier ones through their heads alone,
    so of two ways to reach a cut, one that is no better in any of its costs
    is dropped: nothing that is dropped could have won.

    Args:
        modes (Sequence[str | None]): Of checkpointing, None among them.
        profile (Callable[[str | None], Profile]): Of a mode, with heads in
            that of None; asked once, when it is needed.
        by_module (bool): Whether a module's gradients are freed before the
            next module (``LocalOptimWrapper(step='module')``). Defaults to
            False.
    """

    def __init__(
        self,
        modes: Sequence[str | None],
        profile: Callable[[str | None], Profile],
        by_module: bool = False,
    ):
        self.modes = list(modes)
        self.profile = cache(profile)
        self.plain = self.profile(None)
        self.names = self.plain.names
        self.by_module = by_module
        self.end = len(self.names)
        # Units at the beginning that do not train.
        self.frozen = sum(not unit.trains for unit in self.plain.units)
        self._peaks: dict[tuple[int, str | None], list[int]] = {}
        sizes = [unit.gradients for unit in self.plain.units]
        # Sums up to each unit; the last one stands for the tail.
        self._gradients = _sums([*sizes, self.plain.tail.gradients])
        self._inputs = [unit.input_flops for unit in self.plain.units]
        self._inputs.append(self.plain.tail.input_flops)
        self._recompute = cache(self._recompute_of)

    def ranked(self, num_modules: int, mode: str | None = None) -> list[Plan]:
        """Plans of K modules by rising peak; of K=2 every one.

        Args:
            num_modules (int): K.
            mode (str, optional): Of checkpointing, in all modules.

        Raises:
            ValueError: If the network has too few cut points, or nothing to
                checkpoint.
        """
        if mode not in self.modes:
            raise ValueError(
                f'checkpointing={mode!r}: this backbone has no list of blocks '
                'that could be checkpointed; leave it out.'
            )
        if not 1 <= num_modules <= self.end + 1:
            raise ValueError(
                f'num_modules={num_modules}: this backbone can be cut into 1 '
                f'to {self.end + 1} modules.'
            )
        plans = [
            plan
            for plan in self._plans(num_modules, (mode,))
            if len(plan.split.boundaries) == num_modules - 1
        ]
        return sorted(plans, key=lambda plan: (plan.peak, plan.extra_flops))

    def pareto(
        self, max_modules: int, modes: Sequence[str | None]
    ) -> list[Plan]:
        """No other plan takes both less memory and less compute.

        Each module may be checkpointed in its own way.

        Returns:
            list[Plan]: By rising ``extra_flops``, so by falling peak.
        """
        count = min(max_modules, self.end + 1)
        plans = sorted(
            self._plans(count, tuple(modes)),
            key=lambda plan: (plan.extra_flops, plan.peak),
        )
        front: list[Plan] = []
        for plan in plans:
            if not front or plan.peak < front[-1].peak:
                front.append(plan)
        return front

    def evaluate(self, split: Split) -> Plan:
        """Predict one split.

        Args:
            split (Split): Its boundaries are among the cut points, and it
                has one mode a module.
        """
        label = _START
        ends = [*map(self.names.index, split.boundaries), self.end]
        for end, mode in zip(ends, split.checkpointing, strict=True):
            label = self._extend(label, end, mode)
        return self._plan(label)

    def _plans(
        self, max_modules: int, modes: tuple[str | None, ...]
    ) -> Iterator[Plan]:
        """Of all splits into at most ``max_modules``, what can be best."""
        labels = [_START]
        for num_modules in range(1, max_modules + 1):
            reached: dict[int, list[_Label]] = {}
            for label, mode in product(labels, modes):
                yield self._plan(self._extend(label, self.end, mode))
                if num_modules == max_modules:
                    continue
                for end in range(label.end + 1, self.end):
                    longer = self._extend(label, end, mode)
                    _keep_best(reached.setdefault(end, []), longer)
            labels = [label for group in reached.values() for label in group]

    def _extend(self, label: _Label, end: int, mode: str | None) -> _Label:
        """One more module, up to a cut point or to the network's end."""
        start = label.end + 1
        head = Head() if end == self.end else self.plain.heads[end]
        carried = label.carried + head.kept
        if not self.by_module:
            carried += head.gradients
            carried += self._gradients[end + 1] - self._gradients[start]
        if start == 0 and end < self.end:
            carried += self.plain.pixels
        recompute = self._recompute(mode)
        flops = head.flops + recompute[end + 1] - recompute[start]
        flops -= self._saved_flops(start, end)
        return _Label(
            label.flops + flops,
            label.static + head.static,
            carried,
            max(label.peak, label.carried + self._peak(start, end, mode)),
            (*label.ends, end),
            (*label.modes, mode),
        )

    def _recompute_of(self, mode: str | None) -> list[int]:
        profile = self.profile(mode)
        sizes = [unit.recompute for unit in profile.units]
        return _sums([*sizes, profile.tail.recompute])

    def _saved_flops(self, start: int, end: int) -> int:
        """Gradients that a module does not hand to those before it."""
        if start == 0:
            return 0
        saved = 0
        if not self.plain.heads[start - 1].needs_gradient:
            saved = self._inputs[start]
        if end == self.end:
            sides = self.plain.tail.sides
            saved += sum(side.flops for side in sides if side.unit < start)
        return saved

    def _plan(self, label: _Label) -> Plan:
        update = self._entry(0) + label.carried + self.plain.update
        peak = label.peak
        if len(label.ends) > 1:
            peak += self._other_passes(label.ends[-2] + 1, label.modes[-1])
        return Plan(
            Split([self.names[end] for end in label.ends[:-1]], label.modes),
            max(peak, update) + label.static,
            label.flops,
        )

    def _other_passes(self, start: int, mode: str | None) -> int:
        """What the last module keeps of earlier passes of the backbone."""
        profile = self.profile(mode)
        if profile.passes == 1:
            return 0
        kept = sum(unit.kept for unit in profile.units[start:])
        return (profile.passes - 1) * (kept + profile.tail.saved)

    def _peak(self, start: int, end: int, mode: str | None) -> int:
        """Of a module of the units from ``start`` to ``end``, on its own."""
        key = (start, mode)
        if key not in self._peaks:
            self._peaks[key] = list(self._peaks_from(start, mode))
        return self._peaks[key][end - start]

    def _peaks_from(self, start: int, mode: str | None) -> Iterator[int]:
        """Of modules from ``start`` to each possible end."""
        profile = self.profile(mode)
        saved = forward = 0
        pixels = self.plain.pixels if start == 0 else 0
        # Of earlier modules' tensors the forward holds some for a while.
        base = self._entry(start)
        for index in range(start, self.end):
            unit = profile.units[index]
            forward = max(forward, base + saved + unit.forward)
            # No graph keeps what layers return that do not train.
            base -= _from_before(max(start, self.frozen + 1), unit.freed)
            saved += unit.saved
            head = self.plain.heads[index]
            backward = _backward(profile.units[: index + 1], start)
            yield max(
                forward,
                base + pixels + saved + head.peak,
                base + pixels + backward + head.gradients,
            )
        if start == 0:
            yield profile.peak
        else:
            yield max(forward, base + self._last(start, profile))

    def _last(self, start: int, profile: Profile) -> int:
        """Peak behind the last cut point, and of the backward from there."""
        tail, units = profile.tail, profile.units
        forward = sum(unit.saved for unit in units[start:]) + tail.forward
        kept = sum(unit.kept for unit in units[start:])
        sides = sum(side.size for side in tail.sides if side.unit >= start)
        backward = kept + min(tail.backward, tail.alone + sides)
        later = tail.gradients
        for index in range(self.end - 1, start - 1, -1):
            unit = units[index]
            kept -= unit.kept
            waits = sum(before.side for before in units[start:index])
            backward = max(backward, kept + unit.inner + later + waits)
            later += unit.gradients
        # What goes with the end of the forward.
        backward -= _from_before(start, tail.freed) + self.plain.pixels
        return max(forward, backward)

    def _entry(self, start: int) -> int:
        # What earlier modules leave behind is the same in all modes.
        if start == self.end:
            return self.plain.tail.entry
        return self.plain.units[start].entry


_START = _Label(0, 0, 0, 0, (), ())


def _keep_best(group: list[_Label], label: _Label) -> None:
    """Add a label to those of a cut, unless one is as good in all."""
    if any(label.is_no_better(other) for other in group):
        return
    group[:] = [other for other in group if not other.is_no_better(label)]
    group.append(label)


def _backward(units: Sequence[Unit], start: int) -> int:
    """Peak of the backward of a module, from its ``start`` to the last unit.

    What the forward itself holds where the module ends stays in memory.
    """
    held = units[-1].held
    below = sum(unit.saved for unit in units[start:])
    peak = later = waits = 0
    for index in range(len(units) - 1, start - 1, -1):
        unit, here = units[index], held.get(index, 0)
        below -= unit.saved
        own = unit.backward if here else unit.inner
        peak = max(peak, below + own + later + waits)
        later += unit.gradients
        waits += here
    return peak


def _from_before(start: int, freed: dict[int, int]) -> int:
    """Of earlier modules; a module keeps its own input for its backward."""
    first = max(start - 1, 0)
    return sum(size for unit, size in freed.items() if unit < first)


def _sums(values: Sequence[int]) -> list[int]:
    return list(accumulate(values, initial=0))
