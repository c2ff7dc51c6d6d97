"""The features of a campaign's layouts and faults, counted: they show whether the generator covers the spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from vfio_verify.values.case import Case, Fault, Step
from vfio_verify.values.features import FEATURES, beyond_layout, fault_features, features

_NOWHERE = Case((), (), (), 0)


_BEYOND = ("sequence: ", "threads: ", "kernel: ")


class FeatureCount:
    """Counts features: of layouts, of the faults that were planned for them, and of sequences."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        # A campaign has a thousand faults a second, and few kinds of them: they are named once, at the end.
        self._faults: Counter[tuple[Step, str, str, bool, bool]] = Counter()

    def layout(self, case: Case) -> None:
        """Count a layout that is run."""
        self._counts.update(features(case))

    def plans(self, plans: Iterable[Sequence[Fault]]) -> None:
        """Count the faults of some runs."""
        for plan in plans:
            for fault in plan:
                self._faults[fault.step, fault.errno, fault.when, fault.persistent, fault.nth > 1] += 1
            if len(plan) > 1:
                self._counts["fault: several"] += 1

    def beyond(self, case: Case) -> None:
        """Count what a case has beyond its layout, which is counted already: a sequence, threads, a kernel fault."""
        self._counts.update(name for name in beyond_layout(case) if name.startswith(_BEYOND))

    def counts(self) -> dict[str, int]:
        """How often each feature was met, by its name."""
        total = Counter(self._counts)
        for (step, errno, when, persistent, later), count in self._faults.items():
            fault = Fault(step, 2 if later else 1, errno, "late" if when == "late" else "early", persistent)
            for name in fault_features(_NOWHERE.with_faults(fault)):
                total[name] += count
        return dict(total)


class Row(NamedTuple):
    """A feature, how often it was met, and in what share of the layouts; None where layouts are not what counts."""

    feature: str
    met: int
    share: float | None


def rows(counts: Mapping[str, int], layouts: int) -> Iterator[Row]:
    """First every feature that a layout can have, met or not, in the order of the features; then what else was met."""
    for name in FEATURES:
        yield Row(name, counts.get(name, 0), counts.get(name, 0) / layouts if layouts else 0.0)
    for name in sorted(set(counts) - set(FEATURES)):
        yield Row(name, counts[name], None)


def table(counts: Mapping[str, int], layouts: int) -> Iterator[str]:
    """The rows as lines of text; a feature that was never met is marked."""
    found = list(rows(counts, layouts))
    width = max(len(row.feature) for row in found) + 2
    yield f"{'feature':<{width}}{'layouts':>9}{'share':>9}"
    faults = False
    for row in found:
        if row.share is None and not faults:
            faults = True
            yield ""
            yield f"{'fault or step':<{width}}{'runs':>9}"
        share = "" if row.share is None else f"{row.share:>9.1%}"
        yield f"{row.feature:<{width}}{row.met:>9,}{share}{'' if row.met else '  never'}"
