"""Turns what many runs have shown into what is told: each fault once, with what follows from it, the gravest first.
Pure.

Candidates are confirmed in the order of `to_confirm`; `told` then joins those that tell the same fault.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.judge import Consequence, Violation
from vfio_verify.judge.attribution import key
from vfio_verify.judge.places import places_of
from vfio_verify.judge.sameness import absorbed, counted
from vfio_verify.judge.severity import gravest_first
from vfio_verify.values.case import PAGE, Case
from vfio_verify.values.cause import Key, NameOfLine, is_ambiguous, named, take_apart
from vfio_verify.values.cost import cost
from vfio_verify.values.observation import ASSERTION

MOST_CONFIRMED = 60
"""Ways of violating clauses that are confirmed and made small in one check: each costs up to some hundred runs."""


class Seen(Struct):
    """How many runs have shown each way of violating a clause, and what followed from it in any of them."""

    runs: dict[Key, int] = {}
    consequences: dict[Key, dict[Key, str]] = {}

    def add(self, violation: Violation) -> None:
        """Count what one run has shown."""
        name = key(violation)
        self.runs[name] = self.runs.get(name, 0) + 1
        if violation.consequences:
            known = self.consequences.setdefault(name, {})
            for one in violation.consequences:
                known.setdefault((one.clause, one.cause), one.summary)

    def renamed(self, line: NameOfLine) -> Seen:
        """The same counts, with the names of lines in the causes."""
        other = Seen()
        for (clause, cause), n in self.runs.items():
            name = clause, named(cause, line)
            other.runs[name] = other.runs.get(name, 0) + n
        for (clause, cause), followed in self.consequences.items():
            known = other.consequences.setdefault((clause, named(cause, line)), {})
            known |= {(c, named(why, line)): summary for (c, why), summary in followed.items()}
        return other

    def with_others(self, other: Seen) -> Seen:
        """Both added up."""
        consequences = {
            name: self.consequences.get(name, {}) | other.consequences.get(name, {})
            for name in {**self.consequences, **other.consequences}
        }
        return Seen(dict(Counter(self.runs) + Counter(other.runs)), consequences)


def to_confirm(candidates: Mapping[Key, Violation]) -> tuple[list[Key], list[Key]]:
    """The keys to confirm, the gravest and simplest first, and those there is no time for. What another violation tells
    is in neither."""
    gone = set(filter(is_ambiguous, absorbed(candidates)))
    by_rank = sorted((name for name in candidates if name not in gone), key=lambda name: _rank(candidates[name]))
    before: Counter[str] = Counter()
    turn = {}
    for name in by_rank:  # each clause in turn, so that a clause with many causes leaves time for the others
        turn[name] = before[name[0]]
        before[name[0]] += 1
    order = sorted(by_rank, key=turn.__getitem__)
    return order[:MOST_CONFIRMED], order[MOST_CONFIRMED:]


def _rank(violation: Violation) -> tuple[Any, ...]:
    return (*gravest_first(violation), cost(violation.case), violation.cause)


def told(confirmed: Iterable[Violation], seen: Seen, line: NameOfLine = lambda _: None) -> tuple[Violation, ...]:
    """One violation for each fault: the gravest first, each with its consequences and the number of its runs. `line`
    names a place in the subject's code, which may be there more than once where a function is inlined."""
    seen = seen.renamed(line)
    confirmed = [replace(one, cause=named(one.cause, line)) for one in confirmed]
    found: dict[Key, Violation] = {}
    for violation in confirmed:
        known = found.get(key(violation))
        # One cause may have been met in two ways, after earlier calls and in a sequence: the smaller case stays.
        if known is None or cost(violation.case) < cost(known.case):
            found[key(violation)] = violation
    gone = absorbed(found)
    gone |= _of_one_fault([violation for name, violation in found.items() if name not in gone], line)
    runs = counted(seen.runs, gone)
    left = [
        replace(violation, consequences=_consequences(name, found, gone, seen), runs=max(1, runs.get(name, 0)))
        for name, violation in found.items()
        if name not in gone
    ]
    return tuple(sorted(left, key=_rank))


_MEMORY = ("SURVIVES", "CONFINED", "CONTENTS", "CONTIGUOUS")
"""What a table that is too short can violate, whatever lies behind it."""
_MANY_SEGMENTS, _MANY_WAYS = 5, 3
_ANY_MEMORY = 5
"""Ways in which memory is wrong, from which on it is not wrong in any."""


def _of_one_fault(violations: Collection[Violation], line: NameOfLine) -> dict[Key, Key]:
    """Findings that are one fault seen from several sides, by the smallest cases that show them."""
    first: dict[Any, Key] = {}
    gone: dict[Key, Key] = {}
    ways = Counter((v.clause, _way(v)) for v in violations)
    roots: dict[str, Key] = {}
    in_order = sorted(violations, key=_rank)
    for violation in in_order:
        for what in _is_root_of(violation):
            roots.setdefault(what, key(violation))
    for violation in in_order:
        name = key(violation)
        alike = (first.setdefault(side, name) for side in (*_sides(violation, ways), *_shared(violation, line)))
        others = itertools.chain(alike, _roots(violation, roots))
        same = next((other for other in others if other != name and gone.get(other) != name), None)
        if same is not None:
            gone[name] = gone.get(same, same)
            gone |= {other: gone[name] for other, by in gone.items() if by == name}
    return gone


def _sides(violation: Violation, ways: Mapping[Any, int]) -> Iterator[tuple[Any, ...]]:
    """What two findings of one fault have in common."""
    clause, case = violation.clause, violation.case
    if clause in ("CONTENTS", "CONTIGUOUS", "CONFINED", "REPEATABLE"):
        yield "case", clause, case
    if clause in ("CONTENTS", "CONTIGUOUS") and case.kernel_fault is not None:
        yield "kernel", clause  # how much of it is left is chance
    if clause == "SURVIVES" and case.errp == "null":
        yield "no errp", clause
    if clause in _MEMORY and len(case.iovec) >= _MANY_SEGMENTS and not case.sequence and not case.earlier:
        yield "many segments", len(case.iovec)
    if clause == "CONTENTS" and sum(n for (of, _), n in ways.items() if of == clause) >= _ANY_MEMORY:
        yield "any memory", clause
    if ways[clause, _way(violation)] >= _MANY_WAYS:
        yield "ways out", clause, _way(violation)


_ANSWERED_BY_LINE = ("ACCEPTS_VALID", "SURVIVES", "UNMAP_ON_ERROR")
"""Clauses of which one line of the subject violates each in one way."""
_WRONG_PLACES = (("CONTIGUOUS", "order"), ("CONTIGUOUS", "outside"), ("CONTENTS", "other segment"))
_OF_A_SEGMENT = ("SAME_BLOCK", "WITHIN_BLOCK", "ALIGNED", "CONTENTS", "FAULT_REPORTED")


def _shared(violation: Violation, line: NameOfLine) -> Iterator[tuple[Any, ...]]:
    """What two findings of one fault are about: a line, a descriptor, pages, a range."""
    clause, cause, case = violation.clause, violation.cause, violation.case
    told = take_apart(key(violation))
    if clause in _ANSWERED_BY_LINE and (place := _line_of(violation, line)) is not None:
        yield "line", clause, place
    if clause == "SURVIVES" and (death := violation.observation.death) is not None and death.code == ASSERTION:
        yield "assertion", death.note
    if clause == "REPEATABLE" and told.kind == "descriptor":
        yield "descriptors", clause
    if clause == "REPEATABLE" and (told.clause in ("CONTIGUOUS", "CONTENTS") or cause in ("unlike", "replaced")):
        yield "pages", clause
    if clause == "REPEATABLE" and (
        told.clause == "NO_WINDOW" or (told.clause, told.kind) == ("CONFINED", "munmap") or cause == "gone"
    ):
        yield "range", clause
    if clause == "CONFINED" and (place := _line_of(violation, line)) is not None:
        yield "line", told.origin == "concurrent" or told.kind, place
    if case.page_size > PAGE:
        yield ("host pages",)
    if (clause, cause) in _WRONG_PLACES:
        yield ("wrong places",)


def _roots(violation: Violation, roots: Mapping[str, Key]) -> Iterator[Key]:
    """The findings of which this one can only be a consequence, among those that are there."""
    clause, cause, case = violation.clause, violation.cause, violation.case
    kernel = None if case.kernel_fault is None else case.kernel_fault.kind
    follows = {
        "reads the device's memory": clause == "SURVIVES" and (kernel in ("truncated", "hugetlb") or cause == "excess"),
        "uses a reservation that failed": clause == "CONFINED" and _first_mmap_fails(case),
        "asks for write access": clause == "ACCEPTS_VALID" and kernel == "read_only_descriptor",
        # Who keeps a range needs no hint.
        "gives a range back": (clause == "CONFINED" and take_apart(key(violation)).detail == "unmapped before")
        or (clause == "ACCEPTS_VALID" and not case.kernel.hints),
        "ignores that a look-up failed": clause in _OF_A_SEGMENT and _look_up_fails(case),
    }
    return (roots[what] for what, does in follows.items() if does and what in roots)


def _is_root_of(violation: Violation) -> Iterator[str]:
    """What the subject does by which other findings come about."""
    clause, cause, case = violation.clause, violation.cause, violation.case
    if "copy" in (cause, *(one.cause for one in violation.consequences)):
        yield "reads the device's memory"
    if clause == "FAULT_REPORTED" and _first_mmap_fails(case):
        yield "uses a reservation that failed"
    if (clause, cause) == ("READ_ONLY", "writable"):
        yield "asks for write access"
    if (clause, cause) == ("NO_WINDOW", "again"):
        yield "gives a range back"
    if cause == "no block" or (clause == "FAULT_REPORTED" and _look_up_fails(case)):
        yield "ignores that a look-up failed"


def _first_mmap_fails(case: Case) -> bool:
    return [(one.step, one.nth) for one in case.fault_plan[:1]] == [("mmap", 1)]


def _look_up_fails(case: Case) -> bool:
    return any(one.step == "find_block" for one in case.fault_plan)


def _line_of(violation: Violation, line: NameOfLine) -> str | None:
    """The line that a report names."""
    return next(filter(None, map(line, places_of(violation))), None)


def _way(violation: Violation) -> str:
    """What stays behind on a way out: missed on many of them, it is missed on all."""
    by_kind = violation.clause in ("UNMAP_ON_ERROR", "NO_LEAK")
    return take_apart(key(violation)).kind if by_kind else violation.cause


def _consequences(
    name: Key, found: Mapping[Key, Violation], gone: Mapping[Key, Key], seen: Seen
) -> tuple[Consequence, ...]:
    """What follows from a finding in any run, without what is a finding of its own."""
    alike = [name, *(other for other, by in gone.items() if by == name)]
    followed: dict[Key, str] = {}
    for one in alike:
        followed |= seen.consequences.get(one, {})
        if one in found:
            followed |= {(c.clause, c.cause): c.summary for c in found[one].consequences}
            if one[0] != name[0]:
                followed[one] = found[one].summary
    own = set(found) - set(gone)
    by_clause: dict[str, Consequence] = {}
    for (clause, cause), summary in sorted(followed.items()):
        if (clause, cause) not in own and gone.get((clause, cause), name) == name and clause != name[0]:
            by_clause.setdefault(clause, Consequence(clause, cause, summary))
    return tuple(by_clause.values())
