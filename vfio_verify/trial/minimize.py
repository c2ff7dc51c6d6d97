"""Making a violating case small, and sure: it must violate its clause again, in a fresh process.

Cases are shrunk as values, not as Hypothesis's choices: each clause gets its own smallest case, a foreign case can
be shrunk too, and a candidate costs one message to the worker. Greedy and deterministic: candidates are tried from
the boldest to the mildest, and one that still violates the clause at a lower cost takes the case's place.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.judge import Verdict, Violation
from vfio_verify.judge.attribution import after_earlier, key
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.histories import each_needed, fewest, last_needed
from vfio_verify.trial.reducers import REDUCERS
from vfio_verify.trial.runner import run_once
from vfio_verify.trial.small_cases import small_cases
from vfio_verify.values.case import Case, Policy
from vfio_verify.values.cost import cost, is_simpler
from vfio_verify.values.observation import Observation
from vfio_verify.worker.worker import Worker

_MAX_TRIES, _MAX_CALLS = 1500, 60_000
"""Cases tried for one violation, and the calls made in all of them: where earlier ones are needed, each has many."""
_LONG = 128
"""Segments for which a candidate counts once more: with thousands each takes a second."""
_MAX_SLOW_TRIES = 40
"""Cases of these in which the subject hangs: each takes nearly half a second, although nobody waits to the end."""
_FEW_EARLIER = 8
"""Earlier calls that are made small one by one."""
_MAX_TRIES_CONCURRENT = 60
_CONFIRMATIONS = 3
FRESH_PROCESSES, FRESH_NEEDED = 20, 3
"""What several concurrent calls show must come again in so many of at most so many processes: specs/clauses.toml,
REPEATABLE."""


class Confirmation(Struct, frozen=True):
    """The smallest case found, or None where the violation did not come again."""

    violation: Violation | None
    tries: int


def settle(
    worker: Worker, subject: Subject, policy: Policy, violation: Violation, history: tuple[Case, ...]
) -> Confirmation:
    """Confirm a violation and shrink it. If it needs the calls that were made before it, so does the result, and
    the clause is then REPEATABLE: what a call does must not depend on earlier ones."""
    return settle_any(worker, subject, policy, (Candidate(violation, history),))


def settle_any(worker: Worker, subject: Subject, policy: Policy, candidates: Iterable[Candidate]) -> Confirmation:
    """Confirm the first of several candidates for one violation that can be: each by itself, the smallest first, and
    then each after its history, the shortest first. Shrink it."""
    by_cost = sorted(candidates, key=lambda one: cost(one.violation.case))
    by_history = sorted((one for one in by_cost if one.history), key=lambda one: len(one.history))
    attempts = [(one.violation, one.violation.case) for one in by_cost]
    attempts += [(one.violation, _after(one)) for one in by_history]
    tries = 0
    for violation, case in attempts:
        trial = _Trial(worker, subject, policy, violation)
        found = _confirm_concurrent(trial, case) if case.concurrent else _confirm_one(trial, case)
        tries += trial.tries
        if found is not None:
            return Confirmation(after_earlier(found), tries)
    return Confirmation(None, tries)


def _after(candidate: Candidate) -> Case:
    case = candidate.violation.case
    return replace(case, earlier=(*candidate.history, *case.earlier))


def _confirm_one(trial: _Trial, case: Case) -> Violation | None:
    # What an earlier candidate left in the process is no part of a sequence.
    # A hang is not waited for twice.
    trial.fresh = trial.slow or bool(case.sequence or case.earlier)
    once = trial.slow or case.earlier
    if not any(trial.accepts(case, fresh=True) for _ in range(1 if once else _CONFIRMATIONS)):
        return None
    original = trial.last
    trial.hurry(on=trial.slow)
    try:
        smallest = _smallest(trial)
    finally:
        trial.hurry(on=False)
    if not trial.slow or smallest.case == case:
        return smallest
    return trial.last if trial.accepts(smallest.case, fresh=True) else original


def _smallest(trial: _Trial) -> Violation:
    """As `minimal`, of a case with earlier calls, too, of which there may be thousands."""
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


def _made_repeatedly(trial: _Trial, case: Case, kept: tuple[Case, ...]) -> bool:
    """Does the same call do, made so often before, as where a table fills? Calls that differ would be no simpler."""

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


def comes_again(worker: Worker, subject: Subject, policy: Policy, violation: Violation) -> Violation | None:
    """What concurrent calls have shown, if it comes again often enough to be believed."""
    trial = _Trial(worker, subject, policy, violation)
    return trial.last if _comes_again(trial, violation.case, 1 if trial.slow else FRESH_NEEDED) else None


def seen_concurrent(
    worker: Worker, subject: Subject, policy: Policy, case: Case
) -> tuple[Verdict, list[tuple[Violation, Violation | None]]]:
    """Concurrent calls, in fresh processes until one of them shows something. Beside each violation is the same one as
    it came again, or None if it is not to be believed."""
    for _ in range(FRESH_PROCESSES):
        worker.renew()
        _, verdict = run_once(worker, subject, policy, case)
        if verdict.violations:
            break
    return verdict, [(one, comes_again(worker, subject, policy, one)) for one in verdict.violations]


def _confirm_concurrent(trial: _Trial, case: Case) -> Violation | None:
    """What depends on who goes on when must come again often, before it is made small and after."""
    trial.left = _MAX_TRIES_CONCURRENT
    trial.slow_left = 2
    if not _comes_again(trial, case, 1 if trial.slow else FRESH_NEEDED):
        return None
    original = trial.last
    smallest = _smallest(trial)
    if not trial.slow and not _comes_again(trial, smallest.case, FRESH_NEEDED):
        return original
    return trial.last


def _comes_again(trial: _Trial, case: Case, needed: int) -> bool:
    for left in range(FRESH_PROCESSES, 0, -1):
        needed -= trial.accepts(case, fresh=True)
        if not needed or needed >= left:
            break
    return not needed


def _calls(case: Case) -> int:
    """What it takes to run a case, in calls: another layout takes as long as some twenty more on one."""
    return 1 + len(case.earlier) + 20 * sum(1 for _ in itertools.groupby(case.earlier, key=Case.without_faults))


class _Trial:
    """Asks of one candidate after another whether it violates the clause."""

    def __init__(self, worker: Worker, subject: Subject, policy: Policy, wanted: Violation) -> None:
        self._worker, self._subject, self._policy = worker, subject, policy
        self._wanted = key(wanted)
        death = wanted.observation.death
        self.slow = death is not None and death.is_slow
        self._known: set[Case] = set()
        self.fresh = False
        self.tries, self.left, self.slow_left, self._calls_left = 0, _MAX_TRIES, _MAX_SLOW_TRIES, _MAX_CALLS
        self.last: Violation | None = None

    def hurry(self, *, on: bool) -> None:
        """Take for a hang what does not return soon, to see many of them. The last word is had without."""
        self._worker.hurry(on=on)

    def accepts(self, case: Case, *, fresh: bool = False) -> bool:
        """Run it; `last` is then the violation. Asked again of the same candidate, the answer is no."""
        if not fresh and (self.is_spent or case in self._known):
            return False
        self._known.add(case)
        self.tries += 1
        self.left -= 1 + len(case.iovec) // _LONG
        self._calls_left -= _calls(case)
        if fresh or self.fresh:
            self._worker.renew()
        seen, verdict = run_once(self._worker, self._subject, self._policy, case)
        self.slow_left -= _is_slow(seen)
        for violation in verdict.violations:
            if key(violation) == self._wanted:
                self.last = violation
                # Earlier candidates may have left their mark on the process.
                return fresh or self.fresh or self.accepts(case, fresh=True)
        return False

    @property
    def is_spent(self) -> bool:
        """Is nothing more to be tried? To make and weigh what is not costs time, too, where a list is long."""
        return min(self.left, self.slow_left, self._calls_left) <= 0

    @property
    def earlier_end(self) -> int | None:
        """Which of the earlier calls of the case that was run last has ended the process, if one has."""
        return self._worker.earlier_end

    def adapt(self, case: Case) -> Case:
        return self._subject.adapt(case)


def _is_slow(seen: Observation) -> bool:
    calls = (seen, *(step.call for step in seen.steps if step.call is not None))
    return any(call.death is not None and call.death.is_slow for call in calls)


def _times(trial: _Trial, shows: Callable[[int], bool], enough: int) -> int:
    """How often a call is to be made before, if `enough` times are; 0 if they are not."""
    if shows(enough):
        return fewest(enough, shows)
    # It may end the process before it was made so often.
    end = trial.earlier_end
    return end if end and shows(end) else 0


class _Repeated:
    """The trial of a call that is made so many times before, by the call alone."""

    def __init__(self, trial: _Trial, times: int) -> None:
        self._trial, self._times = trial, times

    @property
    def last(self) -> Violation | None:
        last = self._trial.last
        return last and replace(last, case=replace(last.case, earlier=()))

    @property
    def is_spent(self) -> bool:
        return self._trial.is_spent

    def accepts(self, case: Case) -> bool:
        return self._trial.accepts(replace(case, earlier=(case,) * self._times))

    def adapt(self, case: Case) -> Case:
        return self._trial.adapt(case)


def minimal(trial: _Trial | _Repeated) -> Violation:
    """Shrink what the trial has just accepted: step by step, then by trying all small cases that cost less."""
    best = trial.last
    while best is not None:
        smallest = _reduced(trial, best)
        best = _first(trial, small_cases(smallest.case), smallest)
    return smallest


def _reduced(trial: _Trial | _Repeated, best: Violation) -> Violation:
    """No reducer has anything simpler to offer in the place of what is returned."""
    improved = True
    while improved:
        improved = False
        for reduce in REDUCERS:
            while (simpler := _first(trial, reduce(best.case), best)) is not None:
                best, improved = simpler, True
    return best


def _first(trial: _Trial | _Repeated, candidates: Iterable[Case], best: Violation) -> Violation | None:
    """The first candidate that is simpler than the best one, and violates the clause as well."""
    for candidate in map(trial.adapt, candidates):
        if trial.is_spent:
            break
        if is_simpler(candidate, best.case) and trial.accepts(candidate):
            return trial.last
    return None
