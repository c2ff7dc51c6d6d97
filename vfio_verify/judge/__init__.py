"""The judge: a case, what was expected of it, and what was observed, in; violations out. Pure.

Each clause of the spec has one function in `mapping`, `outcome` or `conduct`. It answers None when the run did not
exercise the clause, an empty list when the clause held, or the findings that violate it.
"""

from __future__ import annotations

from msgspec import Struct

from vfio_verify.case import Case
from vfio_verify.judge import conduct, mapping, outcome
from vfio_verify.judge.facts import ClauseJudge, Facts, Finding
from vfio_verify.model import Expectation
from vfio_verify.observation import Observation

_JUDGES: dict[str, ClauseJudge] = {**mapping.CLAUSES, **outcome.CLAUSES, **conduct.CLAUSES}


class Violation(Struct, frozen=True):
    """A clause, the case, and the evidence. `cause` tells different ways of violating one clause apart."""

    clause: str
    cause: str
    summary: str
    case: Case
    observation: Observation
    expected: str
    seen: str


class Verdict(Struct, frozen=True):
    """Which clauses a run exercised, and how it violated some of them."""

    checked: frozenset[str]
    violations: tuple[Violation, ...]


def judged_clauses() -> frozenset[str]:
    """The ids that have a judge."""
    return frozenset(_JUDGES)


def judge(case: Case, expected: Expectation, seen: Observation, *, has_errp: bool = True) -> Verdict:
    """Hold an observation against the spec. `case` carries the fault plan that was run; without `has_errp` the
    subject's signature has no place for an error."""
    facts = Facts(case, expected, seen, has_errp)
    checked, violations = [], []
    for name, function in _JUDGES.items():
        findings = function(facts)
        if findings is None:
            continue
        checked.append(name)
        by_cause: dict[str, Finding] = {}
        for finding in findings:
            by_cause.setdefault(finding.cause, finding)
        violations += [
            Violation(name, cause, f.summary, case, seen, f.expected, f.seen) for cause, f in by_cause.items()
        ]
    return Verdict(frozenset(checked), tuple(violations))
