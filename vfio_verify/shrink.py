"""Making a violating case small, and sure: it must violate its clause again, in a fresh process.

Cases are shrunk as values, not as Hypothesis's choices: each clause gets its own smallest case, a foreign case can
be shrunk too, and a candidate costs one message to the worker. Greedy and deterministic: candidates are tried from
the boldest to the mildest, and one that still violates the clause at a lower cost takes the case's place.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.case import Case, Policy
from vfio_verify.cost import is_simpler
from vfio_verify.judge import Verdict, Violation
from vfio_verify.observation import Observation
from vfio_verify.runs import dependent, run_and_judge
from vfio_verify.simpler import REDUCERS
from vfio_verify.small_cases import small_cases
from vfio_verify.subject import Subject
from vfio_verify.worker import Worker

_MAX_TRIES = 1500
_MAX_SLOW_TRIES = 8
"""Candidates that may hang, each of which takes seconds."""
_MAX_TRIES_AT_ONCE = 60
_CONFIRMATIONS = 3
FRESH_PROCESSES, FRESH_NEEDED = 20, 3
"""What several calls at once show must come again in so many of at most so many processes: specs/clauses.toml,
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
    trial = _Trial(worker, subject, policy, violation)
    if violation.case.alongside:
        return _settle_at_once(trial, violation)
    slow = violation.observation.death is not None and violation.observation.death.is_slow
    # What an earlier candidate left in the process is no part of a sequence; and a hang is not waited for twice.
    trial.fresh = slow or bool(violation.case.sequence)
    for _ in range(1 if slow else _CONFIRMATIONS):
        if trial.accepts(violation.case, fresh=True):
            return Confirmation(_minimal(trial), trial.tries)
    with_history = replace(violation.case, earlier=history)
    if history and trial.accepts(with_history, fresh=True):
        trial.fresh = True
        return Confirmation(dependent(_minimal(trial)), trial.tries)
    return Confirmation(None, trial.tries)


def comes_again(worker: Worker, subject: Subject, policy: Policy, violation: Violation) -> Violation | None:
    """What calls at once have shown, if it comes again often enough to be believed."""
    trial = _Trial(worker, subject, policy, violation)
    hangs = violation.observation.death is not None and violation.observation.death.is_slow
    return trial.last if _comes_again(trial, violation.case, 1 if hangs else FRESH_NEEDED) else None


def seen_at_once(
    worker: Worker, subject: Subject, policy: Policy, case: Case
) -> tuple[Verdict, list[tuple[Violation, Violation | None]]]:
    """Calls at once, in fresh processes until one of them shows something. Each violation comes with itself as it came
    again, or None if it is not to be believed."""
    for _ in range(FRESH_PROCESSES):
        worker.renew()
        _, verdict = run_and_judge(worker, subject, policy, case)
        if verdict.violations:
            break
    return verdict, [(one, comes_again(worker, subject, policy, one)) for one in verdict.violations]


def _settle_at_once(trial: _Trial, violation: Violation) -> Confirmation:
    """What depends on who goes on when must come again often, before it is made small and after."""
    slow = violation.observation.death is not None and violation.observation.death.is_slow
    trial.left = _MAX_TRIES_AT_ONCE
    trial.slow_left = 2
    if not _comes_again(trial, violation.case, 1 if slow else FRESH_NEEDED):
        return Confirmation(None, trial.tries)
    original = trial.last
    smallest = _minimal(trial)
    if not slow and not _comes_again(trial, smallest.case, FRESH_NEEDED):
        return Confirmation(original, trial.tries)
    return Confirmation(trial.last, trial.tries)


def _comes_again(trial: _Trial, case: Case, needed: int) -> bool:
    for left in range(FRESH_PROCESSES, 0, -1):
        needed -= trial.accepts(case, fresh=True)
        if not needed or needed >= left:
            break
    return not needed


class _Trial:
    """Asks of one candidate after another whether it violates the clause."""

    def __init__(self, worker: Worker, subject: Subject, policy: Policy, wanted: Violation) -> None:
        self._worker, self._subject, self._policy = worker, subject, policy
        self._wanted = (wanted.clause, wanted.cause)
        self._known: set[Case] = set()
        self.fresh = False
        self.tries, self.left, self.slow_left = 0, _MAX_TRIES, _MAX_SLOW_TRIES
        self.last: Violation | None = None

    def accepts(self, case: Case, *, fresh: bool = False) -> bool:
        """Run it; `last` is then the violation. Asked again of the same candidate, the answer is no."""
        if not fresh and (case in self._known or self.left <= 0 or self.slow_left <= 0):
            return False
        self._known.add(case)
        self.tries += 1
        self.left -= 1
        if fresh or self.fresh:
            self._worker.renew()
        seen, verdict = run_and_judge(self._worker, self._subject, self._policy, case)
        self.slow_left -= _is_slow(seen)
        for violation in verdict.violations:
            if (violation.clause, violation.cause) == self._wanted:
                self.last = violation
                # Earlier candidates may have left their mark on the process.
                return fresh or self.fresh or self.accepts(case, fresh=True)
        return False

    def adapt(self, case: Case) -> Case:
        return self._subject.adapt(case)


def _is_slow(seen: Observation) -> bool:
    calls = (seen, *(step.call for step in seen.steps if step.call is not None))
    return any(call.death is not None and call.death.is_slow for call in calls)


def _minimal(trial: _Trial) -> Violation:
    """Shrink what the trial has just accepted: step by step, then by trying all small cases that cost less."""
    best = trial.last
    while best is not None:
        smallest = _reduced(trial, best)
        best = _first(trial, small_cases(smallest.case), smallest)
    return smallest


def _reduced(trial: _Trial, best: Violation) -> Violation:
    """No reducer has anything simpler to offer in the place of what is returned."""
    improved = True
    while improved:
        improved = False
        for reduce in REDUCERS:
            while (simpler := _first(trial, reduce(best.case), best)) is not None:
                best, improved = simpler, True
    return best


def _first(trial: _Trial, candidates: Iterable[Case], best: Violation) -> Violation | None:
    """The first candidate that is simpler than the best one, and violates the clause as well."""
    for candidate in map(trial.adapt, candidates):
        if is_simpler(candidate, best.case) and trial.accepts(candidate):
            return trial.last
    return None
