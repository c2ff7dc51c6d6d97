"""A violation as a report has it: put into words, with the lines of the subject that it is about."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import asdict, replace

from vfio_verify.judge import Violation
from vfio_verify.judge.places import places_of
from vfio_verify.judge.severity import severity
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import Case
from vfio_verify.values.observation import BY_KERNEL, FAULTED, NOWHERE, OUTSIDE, Observation, Threads
from vfio_verify.values.source_line import SourceLine
from vfio_verify.values.spec import Severity, clauses
from vfio_verify.values.words import call_text, relative_text

_CALLS_SHOWN = 12


class Evidence(Struct, frozen=True):
    """Both sides of the comparison, the subject's own error text, and its calls. A is the address of the mapping or, if
    the call failed, of the first reservation."""

    expected: str
    seen: str
    error: str | None
    calls: tuple[str, ...]
    lines: tuple[SourceLine | None, ...] = ()
    """The line of the subject that made each call; None where it is not known."""


class ConsequenceEntry(Struct, frozen=True):
    """Another clause that is violated because of a violation."""

    clause: str
    summary: str


class ViolationEntry(Struct, frozen=True):
    """One way in which the subject violates a clause, on the smallest case found."""

    clause: str
    summary: str
    case: Case
    evidence: Evidence
    where: SourceLine | None = None
    """The line of the subject that is most likely at fault: of the crash, of the call that set the error, or of the
    step that went wrong."""
    cause: str = ""
    """A code for the way of violating the clause: the same fault has the same one in every run."""
    severity: Severity = "low"
    consequences: tuple[ConsequenceEntry, ...] = ()
    """Other clauses that the same runs violate because of it."""
    runs: int = 1
    """The number of runs that have shown it."""

    @property
    def is_advice(self) -> bool:
        """Whether its clause only advises, so that it fails no check."""
        return not clauses()[self.clause].fails_a_check

    @property
    def name(self) -> str:
        """Its clause, marked if that is advice."""
        return f"{self.clause}{' (advice)' if self.is_advice else ''}"

    @property
    def clauses(self) -> tuple[str, ...]:
        """Its own clause, and those of its consequences."""
        return tuple(dict.fromkeys((self.clause, *(one.clause for one in self.consequences))))


class UnconfirmedEntry(ViolationEntry, frozen=True):
    """A violation that was seen but is not confirmed: it did not come again or, unless it was `tried`, was not run
    again because the check was interrupted."""

    tried: bool = True

    @property
    def told(self) -> str:
        """The violation in a sentence."""
        how = "but not again in a fresh process" if self.tried else "but not yet run again"
        return f"Seen once, {how}: {self.clause}: {self.summary}"


def violation_entry(violation: Violation, subject: Subject) -> ViolationEntry:
    """Put a violation into words."""
    case, seen = violation.case, violation.observation
    calls = _calls(case, seen)
    places = (subject.line_at(place) for place in places_of(violation))
    return ViolationEntry(
        clause=violation.clause,
        summary=violation.summary,
        case=case,
        evidence=Evidence(
            expected=violation.expected,
            seen=relative_text(violation.seen, case, seen),
            error=relative_text(seen.message.decode(errors="backslashreplace"), case, seen) if seen.message else None,
            calls=tuple(call.text for call in calls),
            lines=tuple(subject.line_at(call.caller) for call in calls),
        ),
        where=next((line for line in places if line is not None), None),
        cause=violation.cause,
        severity=severity(violation),
        consequences=tuple(ConsequenceEntry(one.clause, one.summary) for one in violation.consequences),
        runs=violation.runs,
    )


def unconfirmed_entry(violation: Violation, subject: Subject, *, tried: bool) -> UnconfirmedEntry:
    """Put a violation into words that did not come again or, unless it was `tried`, was not run again."""
    return UnconfirmedEntry(**asdict(violation_entry(violation, subject)), tried=tried)


class _Call(NamedTuple):
    """A call in words, and the place in the subject that made it."""

    text: str
    caller: int = NOWHERE


def _interleaving(case: Case, seen: Observation, threads: Threads) -> list[_Call]:
    """The calls of all threads in their order, around the one that went astray or the last change of threads. A1 is
    what the first thread's call reserved."""
    totals = (case.total_size, *(call.total_size for call in case.concurrent))
    named = tuple((f"A{i + 1}", a, a + n) for i, (a, n) in enumerate(zip(threads.bases, totals, strict=False)) if a)
    seen = replace(seen, named=named, base=0)
    lines = [
        _Call(f"thread {number + 1}: {call_text(event, case, seen)}", event.caller)
        for _, number, event in threads.steps
    ]
    taken = threads.hole or threads.grab
    if taken is not None:
        near = sum(order <= taken.order for order, _, _ in threads.steps) - 1
    else:
        astray = (i for i, (_, _, event) in enumerate(threads.steps) if event.flags & OUTSIDE)
        pairs = range(len(lines) - 1, 0, -1)
        changes = (i for i in pairs if threads.steps[i][1] != threads.steps[i - 1][1])
        near = next(astray, next(changes, len(lines) - 1))
    if len(lines) <= _CALLS_SHOWN:
        return lines
    first = max(0, min(near - _CALLS_SHOWN * 2 // 3, len(lines) - _CALLS_SHOWN))
    last = first + _CALLS_SHOWN
    before = [_Call(f"... {first} before")] if first else []
    after = [_Call(f"... {len(lines) - last} more")] if last < len(lines) else []
    return [*before, *lines[first:last], *after]


def _calls(case: Case, seen: Observation) -> list[_Call]:
    """The first and the last calls, and those around the one that was made to fail or went astray."""
    if seen.threads is not None:
        return _interleaving(case, seen, seen.threads)
    events = list(seen.trace())
    texts = [_Call(call_text(event, case, seen), event.caller) for event in events]
    if len(texts) <= _CALLS_SHOWN:
        return texts
    odd = next((i for i, event in enumerate(events) if event.flags & (FAULTED | BY_KERNEL | OUTSIDE)), len(texts) - 4)
    wanted = sorted({*range(3), *range(max(0, odd - 2), min(len(texts), odd + 3)), *range(len(texts) - 3, len(texts))})
    shown: list[_Call] = []
    for before, i in zip([-1, *wanted], wanted, strict=False):
        if i - before > 1:
            shown.append(_Call(f"... {i - before - 1} more"))
        shown.append(texts[i])
    return shown
