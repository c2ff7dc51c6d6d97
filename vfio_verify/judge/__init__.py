"""The judge: a case, what was expected of it, and what was observed, in; violations out. Pure.

Each clause of the spec has one function in `mapping`, `outcome` or `conduct`. It answers None when the run did not
exercise the clause, an empty list when the clause held, or the findings that violate it.
"""

from __future__ import annotations

from msgspec import Struct

from vfio_verify.judge import conduct, mapping, outcome
from vfio_verify.judge.consequences import roots
from vfio_verify.judge.facts import ClauseJudge, Facts, Finding
from vfio_verify.judge.refusal import exercised_by_clean_refusal
from vfio_verify.values.case import Case
from vfio_verify.values.model import Expectation
from vfio_verify.values.observation import NOWHERE, Observation

JUDGES: dict[str, ClauseJudge] = {**mapping.CLAUSES, **outcome.CLAUSES, **conduct.CLAUSES}
"""The judge of each clause, by its id."""


class Consequence(Struct, frozen=True):
    """Another clause that the same runs violate, because of a violation."""

    clause: str
    cause: str
    summary: str


class Violation(Struct, frozen=True):
    """A clause, the case, and the evidence. `cause` tells different ways of violating one clause apart; two faults of a
    subject have different ones, and one fault has the same in every case."""

    clause: str
    cause: str
    summary: str
    case: Case
    observation: Observation
    expected: str
    seen: str
    consequences: tuple[Consequence, ...] = ()
    runs: int = 1
    """How many runs have shown it."""
    where: int = NOWHERE
    position: int | None = None
    """Those of the `Finding`."""

    @property
    def whole(self) -> tuple[Consequence, ...]:
        """The violation itself as the first of its consequences."""
        return (Consequence(self.clause, self.cause, self.summary), *self.consequences)

    @property
    def clauses(self) -> tuple[str, ...]:
        """Its own, and those of its consequences."""
        return tuple(dict.fromkeys(one.clause for one in self.whole))


class Verdict(Struct, frozen=True):
    """Which clauses a run exercised, and how it violated some of them."""

    checked: frozenset[str]
    violations: tuple[Violation, ...]


def judge(case: Case, expected: Expectation, seen: Observation, *, has_errp: bool = True) -> Verdict:
    """Hold an observation against the spec. `case` carries the fault plan that was run; without `has_errp` the
    subject's signature has no place for an error."""
    exercised = exercised_by_clean_refusal(expected, seen, has_errp=has_errp)
    return judge_each(case, expected, seen, has_errp=has_errp) if exercised is None else Verdict(exercised, ())


def judge_each(case: Case, expected: Expectation, seen: Observation, *, has_errp: bool = True) -> Verdict:
    """The same, with every clause's judge."""
    facts = Facts(case, expected, seen, has_errp)
    checked, found = [], list[tuple[str, Finding]]()
    for name, function in JUDGES.items():
        findings = function(facts)
        if findings is None:
            continue
        checked.append(name)
        by_cause: dict[str, Finding] = {}
        for finding in findings:
            by_cause.setdefault(finding.cause, finding)
        found += [(name, finding) for finding in by_cause.values()]
    return Verdict(frozenset(checked), _with_consequences(case, seen, found))


def _with_consequences(case: Case, seen: Observation, found: list[tuple[str, Finding]]) -> tuple[Violation, ...]:
    """The roots of what was found, each with what follows from it."""
    by = roots([(name, finding.cause) for name, finding in found]) if len(found) > 1 else [None] * len(found)
    return tuple(
        Violation(
            *(name, f.cause, f.summary, case, seen, f.expected, f.seen),
            consequences=tuple(
                Consequence(other, c.cause, c.summary) for (other, c), root in zip(found, by, strict=True) if root == i
            ),
            where=f.where,
            position=f.position,
        )
        for i, (name, f) in enumerate(found)
        if by[i] is None
    )
