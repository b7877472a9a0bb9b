"""What splits of a network cost, and the best one for a budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from mmlocal.models.checkpointing import MODES
from mmlocal.models.cut_points import Split

from .profile import Profile, profile
from .search import Plan, Search
from .simulator import Simulator
from .step_report import StepReport

# Of the best plans by prediction, how many are run in full.
TRIES = 3
# Of those that should fit a budget, by rising compute.
MOST_TRIES = 12
# By how much predictions may be off.
MARGIN = 0.01
MAX_MODULES = 6


@dataclass(frozen=True)
class Row:
    """One way to train.

    Attributes:
        name (str): What it is.
        report (StepReport): Of a full step on fake tensors.
        extra (float): Compute on top of end to end, as a fraction.
        share (float): Memory as a fraction of end to end's.
    """

    name: str
    report: StepReport
    extra: float
    share: float


class Planner:
    """Compares ways to train one config and finds the best.

    Args:
        simulator (Simulator): Of the config.
        progress (Callable[[str], None], optional): Is told what is done.

    Attributes:
        unavailable (dict[str, str]): Why the network cannot be trained by a
            schedule, or cut at a place, by what is not possible.
    """

    def __init__(
        self,
        simulator: Simulator,
        progress: Callable[[str], None] | None = None,
    ):
        self.simulator = simulator
        self.progress = progress or (lambda text: None)
        self.unavailable: dict[str, str] = {}
        self._reports: dict[str, StepReport] = {}

    @cached_property
    def end_to_end(self) -> StepReport:
        """Without cuts and checkpointing."""
        return self.measure(Split([], [None]))

    @cached_property
    def search(self) -> Search:
        """Over all cut points and modes of checkpointing."""
        found = Search(
            self.modes, self._profile, self.simulator.setting.by_module
        )
        for name, reason in self.simulator.refused.items():
            self.unavailable[f'a cut before {name}'] = reason
        return found

    @property
    def modes(self) -> list[str | None]:
        """Ways of checkpointing that the backbone allows."""
        return list(MODES) if self.simulator.can_checkpoint else [None]

    def _profile(self, mode: str | None) -> Profile:
        self.progress(f'profiling the pieces, {mode or "plain"}')
        return profile(self.simulator, mode, mode is None)

    def measure(self, split: Split) -> StepReport:
        """A full step on fake tensors, once a split."""
        key = split.describe()
        if key not in self._reports:
            self.progress(f'running {key}')
            self._reports[key] = self.simulator.measure(split)
        return self._reports[key]

    def row(self, name: str, split: Split) -> Row:
        """A split beside end to end."""
        return self._row(name, self.measure(split))

    def _row(self, name: str, report: StepReport) -> Row:
        base = self.end_to_end
        return Row(
            name,
            report,
            report.total_flops / base.total_flops - 1,
            report.peak / base.peak,
        )

    def compare(self, max_modules: int = 4) -> list[Row]:
        """End to end and K = 2, 3, ... at their best cuts.

        Each with all modes of checkpointing, and without checkpointing also
        one module at a time; plans are run in full.
        """
        rows = []
        for num_modules in range(1, max_modules + 1):
            if num_modules - 1 > len(self.simulator.candidates):
                break
            others: list[Row] = []
            for mode in self.modes:
                name = 'end to end' if num_modules == 1 else f'K={num_modules}'
                best = self.balanced(num_modules, mode)
                rows.append(self.row(name, best.split))
                if num_modules > 1 and mode is None:
                    others += self.schedules(best.split)
            rows += others
        return rows

    def one_at_a_time(self, split: Split, cached: bool = False) -> StepReport:
        """Modules trained one after another, with the others frozen.

        Args:
            split (Split): Where to cut and what to checkpoint.
            cached (bool): Whether each trains from stored features.

        Returns:
            StepReport: Of the module that takes the most memory, with the
            FLOPs of one step of each module.

        Raises:
            ValueError: If ``cached``, and the backbone is no chain.
        """
        reports = []
        for index in range(len(split.boundaries) + 1):
            self.progress(f'running module {index + 1} alone')
            report = self.simulator.measure_module(split, index, cached)
            reports.append(report)
        flops = Counter()
        for report in reports:
            flops.update(report.flops)
        return replace(max(reports, key=_peak), flops=dict(flops))

    def own_row(self, split: Split) -> Row:
        """The config's own split, by its own schedule."""
        schedule = self.simulator.setting.schedule
        if schedule.startswith('one at a time'):
            cached = schedule.endswith('cached')
            return self._row('this config', self.one_at_a_time(split, cached))
        if schedule != 'together':
            self.unavailable[schedule] = (
                'the row of this config is that of all modules at once; '
                f'{schedule} says in the log what it holds besides'
            )
        return self.row('this config', split)

    def schedules(self, split: Split) -> list[Row]:
        """Other ways to train the modules of a split than all at once."""
        rows = [('one at a time', False), ('one at a time, cached', True)]
        found = []
        for name, cached in rows:
            try:
                report = self.one_at_a_time(split, cached)
            except ValueError as error:
                self.unavailable[name] = str(error)
                continue
            count = len(split.boundaries) + 1
            found.append(self._row(f'K={count}, {name}', report))
        return found

    def balanced(
        self, num_modules: int, mode: str | None = None
    ) -> StepReport:
        """The split into K modules that takes the least memory.

        Args:
            num_modules (int): K.
            mode (str, optional): Of checkpointing.

        Raises:
            ValueError: If the backbone has too few cut points.
        """
        return self._least(self.search.ranked(num_modules, mode))

    def within(
        self,
        budget: int,
        max_modules: int = MAX_MODULES,
        modes: Sequence[str | None] | None = None,
    ) -> tuple[StepReport, bool]:
        """The plan with the least compute that fits.

        A cut can take less compute than none: modules do without the
        gradient of their input. So this may be a plan with cuts even where
        training end to end fits.

        Args:
            budget (int): Bytes.
            max_modules (int): Largest K. Defaults to 6.
            modes (Sequence[str | None], optional): Ways of checkpointing to
                choose among; None for all.

        Returns:
            tuple: The report of a full step, and whether it fits. If nothing
            does, it is the plan that takes the least.
        """
        front = self.search.pareto(max_modules, modes or self.modes)
        base = self.end_to_end.total_flops
        hopeful = [p for p in front if p.peak <= (1 + MARGIN) * budget]
        for plan in hopeful[:MOST_TRIES]:
            best = self._cheapest(budget)
            # Of FLOPs the prediction is exact.
            if best and best.total_flops <= base + plan.extra_flops:
                return best, True
            self.measure(plan.split)
        best = self._cheapest(budget)
        if best is None:
            self._least(front[::-1])
            best = self._cheapest(budget)
        if best is not None:
            return best, True
        return min(self._reports.values(), key=_peak), False

    def _cheapest(self, budget: int) -> StepReport | None:
        """Of all that has run in full and fits."""
        fit = [r for r in self._reports.values() if r.peak <= budget]
        return min(fit, key=_compute) if fit else None

    def _least(self, plans: Sequence[Plan]) -> StepReport:
        """Run plans, by rising prediction, until none can be better."""
        best = self.measure(plans[0].split)
        for plan in plans[1:TRIES]:
            if best.peak <= plan.peak:
                break
            best = min(best, self.measure(plan.split), key=_peak)
        return best

    def largest_batch(self, split: Split, budget: int) -> int | None:
        """Most images a step that fit.

        Memory grows evenly with the batch, once it is more than what the
        optimizer takes: two steps give a guess, and full steps around it the
        number. A batch that does not run, as one image where BatchNorm would
        see one value a channel, does not fit.

        Returns:
            int | None: 0 if not even the smallest batch fits, None if no
            other batch runs than the config's (``unavailable`` has why).
        """
        size = self.simulator.setting.batch_size
        here = self.measure(split).peak
        doubled = self._peak_of(split, 2 * size)
        if doubled is None:
            return None

        def fits(count: int) -> bool:
            peak = self._peak_of(split, count)
            return peak is not None and peak <= budget

        slope = (doubled - here) / size
        guess = int((budget - here) / slope + size) if slope else size
        # The optimizer's peak hides the slope: do not trust it too far.
        low, high = 0, min(max(guess, 1), 8 * size)
        while fits(high):
            # A good guess is right but for one.
            low, high = high, high + 1 if low == 0 else 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def _peak_of(self, split: Split, count: int) -> int | None:
        """Of a step with so many images; None if it does not run."""
        self.progress(f'trying a batch of {count}')
        try:
            return self.simulator.measure(split, count).peak
        except Exception as error:
            # Whatever a model does not like about that batch.
            self.unavailable[f'a batch of {count}'] = str(error)
            return None


def _peak(report: StepReport) -> int:
    return report.peak


def _compute(report: StepReport) -> tuple[int, int]:
    return report.total_flops, report.peak
