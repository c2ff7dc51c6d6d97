"""Compares versions of one helper: one campaign over all of them, and each version's smallest cases run on the others.

What was fixed and what came in is decided by these cases alone, and not by what a campaign happened to meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Literal, NamedTuple

from msgspec import Struct

from vfio_verify.campaign.check import Result, check_case, check_each, line_of
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import LostProcessError, Pool
from vfio_verify.campaign.replay import Outcome, replay_batch
from vfio_verify.corpus.entry import found
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.judge.severity import gravest_first
from vfio_verify.subject.subject import Subject
from vfio_verify.values.cause import Key, named
from vfio_verify.values.cost import cost

Shown = Literal["violated", "unconfirmed", "not violated", "not applicable", "not run"]
"""What a case shows of a version. "not applicable": the version cannot be asked it."""
Change = Literal["came in", "fixed", "still violated", "in between", "undecided"]
"""What became of a violation from the first version to the last; "in between": neither of them has it."""
CHANGES: tuple[Change, ...] = Change.__args__  # type: ignore[attr-defined]  # a Literal has them


def change(shown: Sequence[Shown]) -> Change:
    """What became of a violation, given what its case shows of each version."""
    ends = shown[0], shown[-1]
    if "unconfirmed" in ends or "not run" in ends:
        return "undecided"
    if ends[1] == "violated":
        return "still violated" if ends[0] == "violated" else "came in"
    return "fixed" if ends[0] == "violated" else "in between"


class Compared(Struct, frozen=True):
    """A violation of one version, and what its smallest case shows of each."""

    version: int
    """The position of the version that it was found in."""
    violation: Violation
    shown: tuple[Shown, ...]
    keys: tuple[frozenset[Key], ...]
    """The violations that the case shows of each other version."""

    @property
    def change(self) -> Change:
        """What became of it."""
        return change(self.shown)

    def is_same_as(self, other: Compared) -> bool:
        """Whether it is the same violation, found in another version: the case of one shows the other there."""
        a, b = self.violation, other.violation
        alike = self.version != other.version and a.clause == b.clause and self.shown == other.shown
        return alike and (key(a) in other.keys[self.version] or key(b) in self.keys[other.version])


class Comparison(Struct, frozen=True):
    """What a comparison found."""

    results: tuple[Result, ...]
    """What a check of each version finds."""
    violations: tuple[Compared, ...]
    """Each violation once, the gravest first."""
    interrupted: bool = False


def compare(
    subjects: Sequence[Subject],
    options: Options,
    pool: Pool,
    on_candidate: Callable[[int, Violation], None] = lambda _, __: None,
) -> Comparison:
    """Run one campaign on all versions, in order of their age, and each smallest case on all.

    Ctrl-C ends it early: what was found so far is in the result, which is then marked as interrupted.
    """
    on_others: dict[tuple[int, int], list[_OnOther]] = {}
    results = check_each(subjects, options, pool, on_candidate)
    interrupted = any(result.interrupted for result in results)
    if not interrupted:
        try:
            on_others = _run_on_others(subjects, options, [result.confirmed for result in results], pool)
        except KeyboardInterrupt:
            interrupted = True
            pool.kill()
    doubted = [
        {(one.clause, named(one.cause, line_of(subject))) for one in (*result.unconfirmed, *result.untried)}
        for subject, result in zip(subjects, results, strict=True)
    ]
    compared: list[Compared] = []
    for version, result in enumerate(results):
        for i, violation in enumerate(result.confirmed):
            shown: list[Shown] = ["not run"] * len(subjects)
            keys: list[frozenset[Key]] = [frozenset()] * len(subjects)
            for (by, on), seen in on_others.items():
                if by == version:
                    shown[on], keys[on] = seen[i]
                    if shown[on] == "not violated" and key(violation) in doubted[on]:
                        shown[on] = "unconfirmed"
            shown[version] = "violated"
            compared.append(Compared(version, violation, tuple(shown), tuple(keys)))
    return Comparison(tuple(results), once(compared), interrupted)


class _OnOther(NamedTuple):
    """What a case shows of another version than it was found in."""

    shown: Shown
    keys: frozenset[Key]


def _run_on_others(
    subjects: Sequence[Subject], options: Options, found_in: Sequence[Sequence[Violation]], pool: Pool
) -> dict[tuple[int, int], list[_OnOther]]:
    """What the cases of one version show of another, for each two."""
    pairs = [pair for pair in permutations(range(len(subjects)), 2) if found_in[pair[0]]]
    tasks = [(subjects[on], options, found_in[version]) for version, on in pairs]
    try:
        return dict(zip(pairs, pool.map(run_on, tasks), strict=True))
    except LostProcessError:  # and the pool is of no more use
        return {pair: run_on(*task) for pair, task in zip(pairs, tasks, strict=True)}


def run_on(subject: Subject, options: Options, violations: Sequence[Violation]) -> list[_OnOther]:
    """Run the case of each violation on another version."""
    entries = [
        found(subject.name, one.clause, one.cause, one.case, seed=options.seed, policy=options.policy)
        for one in violations
    ]
    outcomes = replay_batch(subject, options.policy, options.parts, entries)
    line = line_of(subject)
    return [
        _OnOther(
            _shown(outcome, subject, options, violation),
            frozenset((one.clause, named(one.cause, line)) for one in outcome.found),
        )
        for violation, outcome in zip(violations, outcomes, strict=True)
    ]


def _shown(outcome: Outcome, subject: Subject, options: Options, violation: Violation) -> Shown:
    if outcome.status == "not applicable":
        return "not applicable"
    if any(one.clause == violation.clause for one in outcome.found):
        return "violated"
    if outcome.reason:  # it tells of what was seen once and not again
        return "unconfirmed"
    if violation.case.concurrent:  # of these a replay tells only what it believes
        result = check_case(subject, options, violation.case)
        if any(violation.clause in one.clauses for one in (*result.confirmed, *result.unconfirmed)):
            return "unconfirmed"
    return "not violated"


def once(compared: Sequence[Compared]) -> tuple[Compared, ...]:
    """Each violation once, the gravest first. Of one that several versions have, the latest version tells it."""
    kept: list[Compared] = []
    for one in sorted(compared, key=lambda one: (-one.version, cost(one.violation.case))):
        if not any(one.is_same_as(other) for other in kept):
            kept.append(one)
    return tuple(sorted(kept, key=lambda one: gravest_first(one.violation)))
