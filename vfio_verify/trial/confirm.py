"""Confirms a violation: it must come again in a fresh process, before its case is made small and after."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.judge import Verdict, Violation
from vfio_verify.judge.attribution import after_earlier
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.minimize import Trial, minimize
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import Case
from vfio_verify.values.cost import cost

FRESH_PROCESSES, FRESH_NEEDED = 20, 3
"""What concurrent calls show must come again in so many of at most so many processes (see REPEATABLE in the spec)."""
_CONFIRMATIONS = 3
"""Fresh processes, in one of which the violation of a single call or a sequence must come again."""
_MAX_TRIES_CONCURRENT, _MAX_SLOW_TRIES_CONCURRENT = 60, 2


class Confirmation(Struct, frozen=True):
    """The smallest case found, or None where the violation did not come again. `tries` counts the cases run for it."""

    violation: Violation | None
    tries: int


def confirm_and_minimize(runner: Runner, candidates: Iterable[Candidate]) -> Confirmation:
    """Confirm the first of several candidates for one violation that can be confirmed, and minimize its case.

    Each is tried by itself, the smallest first, and then each after the calls that were made before it, the fewest
    first. Where these are needed they are part of the result, whose clause is then REPEATABLE or SURVIVES.
    """
    by_cost = sorted(candidates, key=lambda one: cost(one.violation.case))
    by_history = sorted((one for one in by_cost if one.history), key=lambda one: len(one.history))
    attempts = [(one.violation, one.violation.case) for one in by_cost]
    attempts += [(one.violation, _after_its_history(one)) for one in by_history]
    tries = 0
    for violation, case in attempts:
        trial = Trial(runner, violation)
        found = _confirm_concurrent(trial, case) if case.concurrent else _confirm(trial, case)
        tries += trial.tries
        if found is not None:
            return Confirmation(after_earlier(found), tries)
    return Confirmation(None, tries)


def _after_its_history(candidate: Candidate) -> Case:
    case = candidate.violation.case
    return replace(case, earlier=(*candidate.history, *case.earlier))


def _confirm(trial: Trial, case: Case) -> Violation | None:
    # What an earlier candidate left in the process is no part of a sequence.
    # A hang is not waited for twice.
    trial.fresh = trial.slow or bool(case.sequence or case.earlier)
    once = trial.slow or case.earlier
    if not any(trial.accepts(case, fresh=True) for _ in range(1 if once else _CONFIRMATIONS)):
        return None
    original = trial.last
    trial.hurry(on=trial.slow)
    try:
        smallest = minimize(trial)
    finally:
        trial.hurry(on=False)
    if not trial.slow or smallest.case == case:
        return smallest
    return trial.last if trial.accepts(smallest.case, fresh=True) else original


def _confirm_concurrent(trial: Trial, case: Case) -> Violation | None:
    """What depends on which thread goes on when must come again often, before it is minimized and after."""
    trial.limit(_MAX_TRIES_CONCURRENT, _MAX_SLOW_TRIES_CONCURRENT)
    if not _comes_again_often(trial, case, 1 if trial.slow else FRESH_NEEDED):
        return None
    original = trial.last
    smallest = minimize(trial)
    if not trial.slow and not _comes_again_often(trial, smallest.case, FRESH_NEEDED):
        return original
    return trial.last


def comes_again(runner: Runner, violation: Violation) -> Violation | None:
    """What concurrent calls have shown, as it came again; None if it did not come again often enough."""
    trial = Trial(runner, violation)
    return trial.last if _comes_again_often(trial, violation.case, 1 if trial.slow else FRESH_NEEDED) else None


def seen_concurrent(runner: Runner, case: Case) -> tuple[Verdict, list[tuple[Violation, Violation | None]]]:
    """Run concurrent calls in fresh processes until one of them shows something. Beside each violation is the same one
    as it came again, or None if it is not to be believed."""
    for _ in range(FRESH_PROCESSES):
        runner.worker.renew()
        _, verdict = runner.run_once(case)
        if verdict.violations:
            break
    return verdict, [(one, comes_again(runner, one)) for one in verdict.violations]


def _comes_again_often(trial: Trial, case: Case, needed: int) -> bool:
    for left in range(FRESH_PROCESSES, 0, -1):
        needed -= trial.accepts(case, fresh=True)
        if not needed or needed >= left:
            break
    return not needed
