"""Makes the case of a violation small.

Cases are made small as values, not as Hypothesis's choices: each clause gets its own smallest case, a foreign case can
be minimized too, and a candidate costs one message to the worker. Greedy and deterministic: reducers offer candidates
from the boldest to the mildest, and one that still violates the clause at a lower cost takes the case's place.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec.structs import replace

from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.trial.hangs import hung
from vfio_verify.trial.histories import each_needed, fewest, last_needed
from vfio_verify.trial.reducers import REDUCERS
from vfio_verify.trial.runner import Runner
from vfio_verify.trial.small_cases import small_cases
from vfio_verify.values.case import Case
from vfio_verify.values.cost import is_simpler

_MAX_TRIES, _MAX_CALLS = 1500, 60_000
"""Cases tried for one violation, and the calls made in all of them: where earlier ones are needed, each has many."""
_LONG = 128
"""Segments for which a candidate counts once more: with thousands each takes a second."""
_MAX_SLOW_TRIES = 40
"""Cases in which the subject hangs: each takes nearly half a second, although nobody waits to the end."""
_FEW_EARLIER = 8
"""Earlier calls that are made small one by one."""
_CALLS_OF_A_LAYOUT = 20
"""The time it takes to set up another layout, in calls."""


class Accepts(Protocol):
    """Tells of one candidate after another whether it violates the clause that is wanted."""

    @property
    def last(self) -> Violation | None:
        """The violation of the candidate that was accepted last."""

    @property
    def is_spent(self) -> bool:
        """Whether there is time for nothing more. To make candidates costs time, too, where a list is long."""

    def accepts(self, case: Case) -> bool:
        """Whether the candidate violates the clause."""

    def adapt(self, case: Case) -> Case:
        """The candidate as the subject can be asked it."""


class Trial:
    """Runs candidates until the budget for one violation is spent."""

    def __init__(self, runner: Runner, wanted: Violation) -> None:
        self._runner = runner
        self._wanted = key(wanted)
        death = wanted.observation.death
        self.slow = death is not None and death.is_slow
        self.fresh = False
        """Whether each candidate needs a fresh process."""
        self._known: set[Case] = set()
        self.tries, self._left, self._slow_left, self._calls_left = 0, _MAX_TRIES, _MAX_SLOW_TRIES, _MAX_CALLS
        self.last: Violation | None = None
        """The violation that was accepted last."""

    def limit(self, tries: int, slow_tries: int) -> None:
        """Leave a smaller budget."""
        self._left, self._slow_left = tries, slow_tries

    def hurry(self, *, on: bool) -> None:
        """Take for a hang what does not return soon, so that many candidates can be tried. The last one is run
        without."""
        self._runner.worker.hurry(on=on)

    def accepts(self, case: Case, *, fresh: bool = False) -> bool:
        """Run a candidate; `last` is then its violation. A candidate that was run before is not accepted again."""
        if not fresh and (self.is_spent or case in self._known):
            return False
        self._known.add(case)
        self.tries += 1
        self._left -= 1 + len(case.iovec) // _LONG
        self._calls_left -= _calls(case)
        if fresh or self.fresh:
            self._runner.worker.renew()
        seen, verdict = self._runner.run_once(case)
        self._slow_left -= hung(seen)
        for violation in verdict.violations:
            if key(violation) == self._wanted:
                self.last = violation
                # Earlier candidates may have left their mark on the process.
                return fresh or self.fresh or self.accepts(case, fresh=True)
        return False

    @property
    def is_spent(self) -> bool:
        """Whether there is time for nothing more."""
        return min(self._left, self._slow_left, self._calls_left) <= 0

    @property
    def earlier_end(self) -> int | None:
        """Which of the earlier calls of the last case has ended the process; None if none has."""
        return self._runner.worker.earlier_end

    def adapt(self, case: Case) -> Case:
        return self._runner.subject.adapt(case)


def _calls(case: Case) -> int:
    """What it takes to run a case, in calls."""
    layouts = sum(1 for _ in itertools.groupby(case.earlier, key=Case.without_faults))
    return 1 + len(case.earlier) + _CALLS_OF_A_LAYOUT * layouts


def minimize(trial: Trial) -> Violation:
    """Minimize what the trial has just accepted, and its earlier calls, of which there may be thousands."""
    assert trial.last is not None
    case = trial.last.case
    if not case.earlier:
        return minimal(trial)

    def shows(earlier: Sequence[Case]) -> bool:
        return trial.accepts(replace(case, earlier=tuple(earlier)))

    kept = last_needed(case.earlier, shows)
    if len(kept) > _FEW_EARLIER and _made_repeatedly(trial, case, kept):
        assert trial.last is not None
        return trial.last
    each_needed(kept, shows)
    return minimal(trial)


def _made_repeatedly(trial: Trial, case: Case, kept: tuple[Case, ...]) -> bool:
    """Whether one and the same call does, made as often before, as where a table fills. Its case is then minimized.
    Calls that differ would be no simpler."""

    def shows(call: Case, times: int) -> bool:
        earlier = (call,) * times
        return earlier == kept or trial.accepts(replace(case, earlier=earlier))

    own = replace(case, earlier=(), sequence=(), concurrent=())
    for call in dict.fromkeys((own, own.without_faults())):
        times = _times(trial, functools.partial(shows, call), len(kept))
        if times:
            minimal(_Repeated(trial, times))
            return True
    return False


def _times(trial: Trial, shows: Callable[[int], bool], enough: int) -> int:
    """How often a call must be made before, if `enough` times suffice; 0 if they do not."""
    if shows(enough):
        return fewest(enough, shows)
    # It may end the process before it was made so often.
    end = trial.earlier_end
    return end if end and shows(end) else 0


class _Repeated:
    """The trial of a call that is made so many times before, told by the call alone."""

    def __init__(self, trial: Trial, times: int) -> None:
        self._trial, self._times = trial, times
        self.adapt = trial.adapt

    @property
    def last(self) -> Violation | None:
        last = self._trial.last
        return last and replace(last, case=replace(last.case, earlier=()))

    @property
    def is_spent(self) -> bool:
        return self._trial.is_spent

    def accepts(self, case: Case) -> bool:
        return self._trial.accepts(replace(case, earlier=(case,) * self._times))


def minimal(trial: Accepts) -> Violation:
    """Reduce what the trial has just accepted step by step, then try all small cases that cost less."""
    best = trial.last
    while best is not None:
        smallest = _reduced(trial, best)
        best = _first(trial, small_cases(smallest.case), smallest)
    return smallest


def _reduced(trial: Accepts, best: Violation) -> Violation:
    """A violation in whose place no reducer has anything simpler to offer."""
    improved = True
    while improved:
        improved = False
        for reduce in REDUCERS:
            while (simpler := _first(trial, reduce(best.case), best)) is not None:
                best, improved = simpler, True
    return best


def _first(trial: Accepts, candidates: Iterable[Case], best: Violation) -> Violation | None:
    """The first candidate that is simpler than the best one and violates the clause too."""
    for candidate in map(trial.adapt, candidates):
        if trial.is_spent:
            break
        if is_simpler(candidate, best.case) and trial.accepts(candidate):
            return trial.last
    return None
