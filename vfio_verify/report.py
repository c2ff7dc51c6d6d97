"""The report as a value and as JSON: what was checked, how each clause fared, and each violation with its case."""

from __future__ import annotations

from itertools import islice
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify import __version__
from vfio_verify.campaign import Options, Result
from vfio_verify.case import Case
from vfio_verify.judge import Violation
from vfio_verify.judge.places import places_of
from vfio_verify.judge.severity import gravest_first, severity
from vfio_verify.kernel_faults import KernelRuns
from vfio_verify.line_coverage import LineCoverage, line_coverage
from vfio_verify.markup import json_report
from vfio_verify.observation import BY_KERNEL, FAULTED, NOWHERE, OUTSIDE, Observation, Threads
from vfio_verify.source_line import SourceLine
from vfio_verify.spec import Level, Severity, clauses
from vfio_verify.subject import Subject
from vfio_verify.words import call_text, relative_text

Status = Literal["holds", "violated", "not exercised"]
_CALLS_SHOWN = 12
_PLACES_TRIED = 64


class SubjectEntry(Struct, frozen=True):
    """What was verified."""

    name: str
    kind: str
    function: str
    signature: str
    place: str | None
    title: str | None


class ClauseEntry(Struct, frozen=True):
    """How a clause fared; `checked` counts the runs that exercised it."""

    id: str
    level: Level
    status: Status
    checked: int


class Evidence(Struct, frozen=True):
    """Both sides of the comparison, the subject's own error text, and its calls. A is the mapping's address, or the
    first reservation's where the call failed."""

    expected: str
    seen: str
    error: str | None
    calls: tuple[str, ...]
    lines: tuple[SourceLine | None, ...] = ()
    """For each of the calls, the line of the subject that made it; None where that is not known."""


class ConsequenceEntry(Struct, frozen=True):
    """Another clause that a violation brings to be violated."""

    clause: str
    summary: str


class ViolationEntry(Struct, frozen=True):
    """One way in which the subject violates a clause, on the smallest case found."""

    clause: str
    summary: str
    case: Case
    evidence: Evidence
    where: SourceLine | None = None
    """The line of the subject that is at fault, as far as it can be told: of the crash, of the call that set the error,
    of the step that went wrong."""
    cause: str = ""
    """The way of violating the clause: the same for the same fault in another run."""
    severity: Severity = "low"
    consequences: tuple[ConsequenceEntry, ...] = ()
    """What follows from it, in the same runs."""
    runs: int = 1
    """How many runs have shown it."""

    @property
    def clauses(self) -> tuple[str, ...]:
        """Its own, and those of its consequences."""
        return tuple(dict.fromkeys((self.clause, *(one.clause for one in self.consequences))))


class Report(Struct, frozen=True, tag_field="schema", tag="vfio-verify/report@1"):
    """The outcome of a check. `examples` counts the layouts that were run, `runs` the calls with all faults.
    `features` says how many layouts had each feature, and how many runs each kind of fault."""

    subject: SubjectEntry
    verdict: Literal["conforms", "violates"]
    examples: int
    seed: int
    clauses: tuple[ClauseEntry, ...]
    violations: tuple[ViolationEntry, ...]
    runs: int
    policy: str
    interrupted: bool
    unconfirmed: tuple[ViolationEntry, ...]
    notes: tuple[str, ...]
    kernel_faults: tuple[KernelRuns, ...]
    version: str
    features: dict[str, int] = {}
    coverage: LineCoverage | None = None
    """Which lines of the subject some run reached. None for the core, and where that is not known."""

    @property
    def exit_status(self) -> int:
        """What ``vfio-verify check`` exits with."""
        if self.interrupted:
            return 130
        return 1 if self.verdict == "violates" else 0

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def make_report(subject: Subject, options: Options, result: Result) -> Report:
    """Put a campaign's result into words."""
    spec = clauses()
    confirmed = sorted(result.confirmed, key=gravest_first)
    violated = {clause for violation in confirmed for clause in violation.clauses}
    entries = tuple(
        ClauseEntry(name, clause.level, _status(name, violated, result), result.checked.get(name, 0))
        for name, clause in spec.items()
    )
    fails = any(spec[name].fails_a_check for name in violated)
    return Report(
        subject=SubjectEntry(
            subject.name, subject.kind, subject.function, subject.signature, subject.place, subject.title
        ),
        verdict="violates" if fails else "conforms",
        examples=result.layouts,
        seed=options.seed,
        clauses=entries,
        violations=tuple(_entry(violation, subject) for violation in confirmed),
        runs=result.runs,
        policy=options.policy,
        interrupted=result.interrupted,
        unconfirmed=tuple(_entry(violation, subject) for violation in result.unconfirmed),
        notes=_notes(result),
        kernel_faults=result.kernel_faults,
        version=__version__,
        features=result.features,
        coverage=line_coverage(subject, result.covered),
    )


def _status(name: str, violated: set[str], result: Result) -> Status:
    if name in violated:
        return "violated"
    return "holds" if result.checked.get(name) else "not exercised"


def _notes(result: Result) -> tuple[str, ...]:
    notes = []
    if result.cut_short:
        notes.append("The subject hangs often; part of the layouts were left out.")
    if result.sampled:
        notes.append(
            f"In {result.sampled} runs with large segments, contents were compared on a sample of their pages."
        )
    return (*notes, *result.unconfined)


def _entry(violation: Violation, subject: Subject) -> ViolationEntry:
    case, seen = violation.case, violation.observation
    error = None
    if seen.message:
        error = relative_text(seen.message.decode(errors="backslashreplace"), case, seen)
    calls = _calls(case, seen)
    return ViolationEntry(
        clause=violation.clause,
        summary=violation.summary,
        case=case,
        evidence=Evidence(
            expected=violation.expected,
            seen=relative_text(violation.seen, case, seen),
            error=error,
            calls=tuple(call.text for call in calls),
            lines=tuple(subject.line_at(call.caller) for call in calls),
        ),
        where=_where(violation, subject),
        cause=violation.cause,
        severity=severity(violation),
        consequences=tuple(ConsequenceEntry(one.clause, one.summary) for one in violation.consequences),
        runs=violation.runs,
    )


def _where(violation: Violation, subject: Subject) -> SourceLine | None:
    """The likeliest place that is in the subject's own text."""
    places = dict.fromkeys(islice(places_of(violation), _PLACES_TRIED))
    return next((line for place in places if (line := subject.line_at(place)) is not None), None)


class _Call(NamedTuple):
    """A call as it is told, and the place in the subject that made it."""

    text: str
    caller: int = NOWHERE


def _interleaving(case: Case, seen: Observation, threads: Threads) -> list[_Call]:
    """The calls of all threads in their order, around the one that went astray or the last change of threads. A1 is
    what the first thread's call reserved."""
    totals = (case.total_size, *(call.total_size for call in case.alongside))
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
    """The calls around what matters: those that were made to fail or went astray, and the last ones."""
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
