"""The report as a value and as JSON: what was checked, how each clause fared, and each violation with its case."""

from __future__ import annotations

from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify import __version__
from vfio_verify.campaign.check import Result
from vfio_verify.campaign.line_coverage import LineCoverage, line_coverage
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.tally import Tally
from vfio_verify.generate import long_lists
from vfio_verify.generate.kernel_faults import KernelRuns
from vfio_verify.judge import Violation
from vfio_verify.judge.places import places_of
from vfio_verify.judge.severity import gravest_first, severity
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import Case
from vfio_verify.values.markup import json_report
from vfio_verify.values.observation import BY_KERNEL, FAULTED, NOWHERE, OUTSIDE, Observation, Threads
from vfio_verify.values.source_line import SourceLine
from vfio_verify.values.spec import Level, Severity, clauses
from vfio_verify.values.words import call_text, relative_text

Status = Literal["holds", "violated", "unconfirmed", "not exercised"]
Verdict = Literal["conforms", "violates", "unconfirmed"]
UNCONFIRMED_STATUS = 4
"""The exit status where something was seen that is not confirmed, or a part was left out, and nothing is confirmed."""
_CALLS_SHOWN = 12


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


class UnconfirmedEntry(ViolationEntry, frozen=True):
    """A violation that was seen and is not confirmed: it did not come again; or, where it is not `tried`, it was not
    run again, since the check was interrupted."""

    tried: bool = True

    @property
    def told(self) -> str:
        """In a sentence."""
        how = "and not again in a fresh process" if self.tried else "and not yet run again"
        return f"Seen once, {how}: {self.clause}: {self.summary}"


class Report(Struct, frozen=True, tag_field="schema", tag="vfio-verify/report@1"):
    """The outcome of a check. `verdict` is "violates" where a violation of a clause that fails a check is confirmed;
    else "unconfirmed" where one was seen and is not, or a part of the check was left out; null where nothing was
    judged.
    `examples` counts the layouts that were run, `runs` the calls with all faults, and `left_out` what was not run.
    `features` says how many layouts had each feature, and how many runs each kind of fault."""

    subject: SubjectEntry
    verdict: Verdict | None
    examples: int
    seed: int
    clauses: tuple[ClauseEntry, ...]
    violations: tuple[ViolationEntry, ...]
    runs: int
    policy: str
    interrupted: bool
    unconfirmed: tuple[UnconfirmedEntry, ...]
    notes: tuple[str, ...]
    kernel_faults: tuple[KernelRuns, ...]
    version: str
    features: dict[str, int] = {}
    coverage: LineCoverage | None = None
    """Which lines of the subject some run reached. None for the core, and where that is not known."""
    left_out: dict[str, int] = {}

    @property
    def exit_status(self) -> int:
        """What ``vfio-verify check`` exits with."""
        if self.interrupted:
            return 130
        return {"conforms": 0, "violates": 1}.get(self.verdict or "", UNCONFIRMED_STATUS)

    @property
    def is_whole(self) -> bool:
        """Was all run that the check promises?"""
        return not self.interrupted and not self.left_out and self.verdict is not None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the verdict is not "conforms" although nothing is confirmed, or why there is none."""
        seen = [entry for entry in self.unconfirmed if clauses()[entry.clause].fails_a_check]
        again = sum(entry.tried for entry in seen)
        untried = len(seen) - again
        return (
            *(["nothing was judged"] if self.verdict is None else []),
            *([f"{again} violation{'s' * (again != 1)} seen once, and not again"] if again else []),
            *([f"{untried} violation{'s' * (untried != 1)} seen, and not yet run again"] if untried else []),
            *(["the check was interrupted"] if self.interrupted else []),
            *(["part of it was left out"] if self.left_out else []),
        )

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def make_report(subject: Subject, options: Options, result: Result) -> Report:
    """Put a campaign's result into words."""
    spec, tally = clauses(), result.tally
    confirmed = sorted(result.confirmed, key=gravest_first)
    violated = {clause for violation in confirmed for clause in violation.clauses}
    entries = tuple(
        ClauseEntry(name, clause.level, _status(name, violated, result), tally.checked.get(name, 0))
        for name, clause in spec.items()
    )
    fails = any(spec[name].fails_a_check for name in violated)
    return Report(
        subject=SubjectEntry(
            subject.name, subject.kind, subject.function, subject.signature, subject.place, subject.title
        ),
        verdict=_verdict(result, fails=fails),
        examples=tally.layouts,
        seed=options.seed,
        clauses=entries,
        violations=tuple(violation_entry(violation, subject) for violation in confirmed),
        runs=tally.runs,
        policy=options.policy,
        interrupted=result.interrupted,
        unconfirmed=(
            *(_unconfirmed(violation, subject, tried=True) for violation in result.unconfirmed),
            *(_unconfirmed(violation, subject, tried=False) for violation in result.untried),
        ),
        notes=_notes(result),
        kernel_faults=result.kernel_faults,
        version=__version__,
        features=tally.features,
        coverage=line_coverage(subject, tally.covered),
        left_out=tally.left_out,
    )


def _verdict(result: Result, *, fails: bool) -> Verdict | None:
    if fails:
        return "violates"
    seen = [*result.unconfirmed, *result.untried]
    if not result.tally.runs and not seen:
        return None
    doubtful = any(clauses()[violation.clause].fails_a_check for violation in seen)
    return "unconfirmed" if doubtful or result.interrupted or result.tally.left_out else "conforms"


def _unconfirmed(violation: Violation, subject: Subject, *, tried: bool) -> UnconfirmedEntry:
    entry = violation_entry(violation, subject)
    return UnconfirmedEntry(**{name: getattr(entry, name) for name in entry.__struct_fields__}, tried=tried)


def _status(name: str, violated: set[str], result: Result) -> Status:
    if name in violated:
        return "violated"
    if any(name == violation.clause for violation in (*result.unconfirmed, *result.untried)):
        return "unconfirmed"
    return "holds" if result.tally.checked.get(name) else "not exercised"


_VERY_LONG = "segments: 4097 to 65536"


def _notes(result: Result) -> tuple[str, ...]:
    notes, tally = [], result.tally
    if tally.left_out:
        notes.append(f"Left out, {_why_left_out(tally)}: {left_out_text(tally.left_out)}.")
    if tally.sampled:
        notes.append(f"In {tally.sampled} runs with large segments, contents were compared on a sample of their pages.")
    if _VERY_LONG in tally.features and (limited := long_lists.limited(long_lists.max_map_count())):
        notes.append(limited)
    return (*notes, *result.unconfined)


def _why_left_out(tally: Tally) -> str:
    lost = "work of a lost process" in tally.left_out
    return "since a process ended unexpectedly" if lost else "since the subject hangs, or ends its process, too often"


def left_out_text(left_out: dict[str, int]) -> str:
    """What was not run, in words."""
    return ", ".join(f"{count:,} {what}" for what, count in left_out.items())


def violation_entry(violation: Violation, subject: Subject) -> ViolationEntry:
    """Put a violation into words."""
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
    return next((line for place in places_of(violation) if (line := subject.line_at(place)) is not None), None)


class _Call(NamedTuple):
    """A call as it is told, and the place in the subject that made it."""

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
