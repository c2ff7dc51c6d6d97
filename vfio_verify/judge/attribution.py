"""The clause that a finding belongs to when it needs other calls. Pure.

What a call does wrong by itself violates its own clauses. What it does wrong only after other calls violates
REPEATABLE, since a call must answer the same at any time; but what ends the process violates SURVIVES, whatever came
before. The judges compare a call with the same call made alone; this module draws the conclusion.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from vfio_verify.judge import Violation
from vfio_verify.values.cause import Key, after_others


def key(violation: Violation) -> Key:
    """What tells a violation from others of the same subject."""
    return violation.clause, violation.cause


def after_earlier(violation: Violation) -> Violation:
    """A violation that its case shows only after the case's earlier calls. One without earlier calls stays as it is."""
    n = len(violation.case.earlier)
    return _attributed(violation, f"after {n:,} earlier call{'s' * (n != 1)}") if n else violation


def in_step(violation: Violation, step: str) -> Violation:
    """A violation of a later call of a sequence, which the same call does not show alone."""
    if violation.clause == "REPEATABLE":
        return violation  # its judge names the step
    return _attributed(violation, f"in {step}, and not in the same call alone")


def only_after_earlier(violations: Iterable[Violation], alone: Iterable[Violation]) -> tuple[Violation, ...]:
    """The violations of a case with earlier calls, given those that its last call shows alone."""
    shown = set(map(key, alone))
    return tuple(one if key(one) in shown else after_earlier(one) for one in violations)


def _attributed(violation: Violation, when: str) -> Violation:
    summary = f"{when}: {violation.summary}"
    if violation.clause == "SURVIVES":
        return replace(violation, summary=summary)
    summary += f" ({violation.clause})"
    if violation.clause == "REPEATABLE":
        return replace(violation, summary=summary)
    cause = after_others(violation.clause, violation.cause)
    return replace(violation, clause="REPEATABLE", cause=cause, summary=summary)
