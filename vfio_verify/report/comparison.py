"""A comparison of versions as a value, as JSON and as text: a table of clauses by version, and each violation with what
became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Literal

from msgspec import Struct
from rich.console import Console
from rich.text import Text

from vfio_verify import __version__
from vfio_verify.campaign.compare import CHANGES, Change, Compared, Comparison, Shown
from vfio_verify.campaign.options import Options
from vfio_verify.report.case_text import reproduce_line
from vfio_verify.report.report import (
    UNCONFIRMED_STATUS,
    Report,
    Status,
    SubjectEntry,
    Verdict,
    left_out_text,
    make_report,
)
from vfio_verify.report.text import STATUS_STYLES, Page, line_text, printable
from vfio_verify.report.violations import UnconfirmedEntry, ViolationEntry, violation_entry
from vfio_verify.subject.subject import Subject
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import Level, clauses
from vfio_verify.values.words import number_of

_LONGEST_LABEL = 11
_COLUMN, _MOST_COLUMNS, _MOST_BESIDE_LEVEL = 15, 4, 3


class VersionEntry(Struct, frozen=True):
    """One version. Its verdict counts what the cases of other versions show of it, too."""

    label: str
    subject: SubjectEntry
    verdict: Verdict | None
    runs: int
    notes: tuple[str, ...]
    left_out: dict[str, int]
    unconfirmed: tuple[UnconfirmedEntry, ...]


class ClauseRow(Struct, frozen=True):
    """How a clause fared, in the order of the versions."""

    id: str
    level: Level
    statuses: tuple[Status, ...]


class ComparedEntry(Struct, frozen=True):
    """A violation, the version that it was found in, what became of it, and what its smallest case shows of each
    version. `command` judges that case alone."""

    change: Change
    version: str
    shown: tuple[Shown, ...]
    violation: ViolationEntry
    command: str


class ComparisonReport(Struct, frozen=True, tag_field="schema", tag="vfio-verify/comparison@1"):
    """The outcome of a comparison. `verdict` tells the last version from the first: "came in" if it violates what the
    first does not; else "undecided" if one of `doubts` is left; else "nothing came in". `examples` counts the layouts,
    which are the same for all."""

    verdict: Literal["came in", "nothing came in", "undecided"]
    versions: tuple[VersionEntry, ...]
    clauses: tuple[ClauseRow, ...]
    violations: tuple[ComparedEntry, ...]
    doubts: tuple[str, ...]
    examples: int
    seed: int
    policy: str
    interrupted: bool
    version: str

    @property
    def exit_status(self) -> int:
        """What ``vfio-verify compare`` exits with."""
        if self.interrupted:
            return 130
        return {"came in": 1, "undecided": UNCONFIRMED_STATUS}.get(self.verdict, 0)

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def labels(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """A short name for each version: its number in a series, or the name of its file; letters if these are long or not
    different."""
    names = tuple(_label(subject) for subject in subjects)
    if len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST_LABEL:
        return names
    return tuple(_letters(i) for i in range(len(names)))


def _label(subject: Subject) -> str:
    words = subject.arguments
    version = words[words.index("--version") + 1] if "--version" in words else None
    return f"v{version}" if version else printable(PurePath(subject.name).name)


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def comparison_report(subjects: Sequence[Subject], options: Options, comparison: Comparison) -> ComparisonReport:
    """Put a comparison into words."""
    names = labels(subjects)
    reports = [
        make_report(subject, options, result) for subject, result in zip(subjects, comparison.results, strict=True)
    ]
    rows = tuple(_clause_row(name, reports, comparison.violations) for name in clauses())
    violations = tuple(
        ComparedEntry(
            one.change,
            names[one.version],
            one.shown,
            violation_entry(one.violation, subjects[one.version]),
            reproduce_line(one.violation.case, reports[one.version]),
        )
        for one in comparison.violations
    )
    versions = tuple(
        VersionEntry(
            name,
            report.subject,
            _verdict(report, [row.statuses[i] for row in rows if clauses()[row.id].fails_a_check]),
            report.runs,
            report.notes,
            report.left_out,
            report.unconfirmed,
        )
        for i, (name, report) in enumerate(zip(names, reports, strict=True))
    )
    came_in = any(one.change == "came in" and not one.violation.is_advice for one in violations)
    doubts = tuple(_doubts(versions, rows, violations, interrupted=comparison.interrupted))
    return ComparisonReport(
        verdict="came in" if came_in else "undecided" if doubts else "nothing came in",
        versions=versions,
        clauses=rows,
        violations=violations,
        doubts=doubts,
        examples=max(report.examples for report in reports),
        seed=options.seed,
        policy=options.policy,
        interrupted=comparison.interrupted,
        version=__version__,
    )


def _clause_row(name: str, reports: Sequence[Report], violations: Sequence[Compared]) -> ClauseRow:
    """A clause's status in each version, by its own campaign and by the cases of the others."""
    statuses: list[Status] = []
    for i, report in enumerate(reports):
        entry = next(entry for entry in report.clauses if entry.id == name)
        shown = {one.shown[i] for one in violations if one.violation.clause == name}
        found: tuple[Status, ...] = ("violated", "unconfirmed")
        seen = {entry.status, *shown}
        statuses.append(next((status for status in found if status in seen), entry.status))
    return ClauseRow(name, clauses()[name].level, tuple(statuses))


def _verdict(report: Report, statuses: Sequence[Status]) -> Verdict | None:
    if "violated" in statuses:
        return "violates"
    return "unconfirmed" if report.verdict == "conforms" and "unconfirmed" in statuses else report.verdict


def _doubts(
    versions: Sequence[VersionEntry],
    rows: Sequence[ClauseRow],
    violations: Sequence[ComparedEntry],
    *,
    interrupted: bool,
) -> Iterator[str]:
    """Why it is not known that nothing came in, besides what did."""
    first, last = versions[0].label, versions[-1]
    told = {clause for one in violations if one.change == "came in" for clause in one.violation.clauses}
    for one in violations:
        may_be_new = one.shown[0] != "violated" and one.shown[-1] not in ("not violated", "not applicable")
        if one.change == "undecided" and may_be_new and not one.violation.is_advice:
            told.add(one.violation.clause)
            why = "not yet run on all versions" if "not run" in one.shown else "seen once in a version, but not again"
            yield f"{one.violation.clause}: {why}"
    for row in rows:
        if not clauses()[row.id].fails_a_check or row.statuses[0] == "violated" or row.id in told:
            continue
        if row.statuses[-1] == "violated":
            yield f"{row.id}: {last.label} violates it beside another clause, and no small case tells it from {first}"
        elif row.statuses[-1] == "unconfirmed":
            yield f"{row.id}: seen once in {last.label}, but not again"
    if interrupted:
        yield "the comparison was interrupted"
    if last.left_out:
        yield f"left out of {last.label}: {left_out_text(last.left_out)}"
    if last.verdict is None:
        yield f"nothing of {last.label} was judged"


# ---- text -------------------------------------------------------------------------------------------------------

_TITLES: dict[Change, tuple[str, str]] = {
    "came in": ("Came in", "bold red"),
    "fixed": ("Fixed", "bold green"),
    "undecided": ("Undecided", "bold yellow"),
    "in between": ("Came in and fixed in between", "bold"),
    "still violated": ("Still violated", "bold"),
}


def print_comparison(report: ComparisonReport, console: Console) -> None:
    """Write a whole comparison."""
    page = Page(console)
    _print_head(report, page)
    number = 0
    for change, (title, style) in _TITLES.items():
        chosen = [one for one in report.violations if one.change == change]
        if chosen:
            page.line(Text(title, style=style))
            page.line()
        for one in chosen:
            number += 1
            _print_compared(number, one, report, page)
    for version in report.versions:
        for entry in version.unconfirmed:
            page.paragraph(f"{version.label}: {entry.told}")
            page.line()
    _print_clauses(report, page)
    for note in (*(f"{doubt}." for doubt in report.doubts), *_notes(report)):
        page.line()
        page.paragraph(note)


def _print_head(report: ComparisonReport, page: Page) -> None:
    first, last = report.versions[0], report.versions[-1]
    counts = {change: sum(one.change == change for one in report.violations) for change in CHANGES}
    told = ", ".join(f"{count} {change}" for change, count in counts.items() if count) or "no violation"
    style = {"came in": "bold red", "undecided": "bold yellow"}.get(report.verdict, "bold green")
    page.line(Text(f"{last.label} against {first.label}: ", style="bold") + Text(told, style=style))
    for one in report.versions:
        page.row(one.label, f"{_name(one)}: {_verdict_text(one, report)}", indent=0)
    *others, calls = (f"{one.runs:,}" for one in report.versions)
    interrupted = "; interrupted" if report.interrupted else ""
    page.paragraph(
        f"{number_of(report.examples, 'layout')}, the same for all; {', '.join(others)} and {calls} calls, "
        f"seed {report.seed}{interrupted}"
    )
    page.line()


def _name(one: VersionEntry) -> str:
    return ", ".join(filter(None, (one.subject.title, one.subject.place or one.subject.name)))


def _verdict_text(one: VersionEntry, report: ComparisonReport) -> str:
    if one.verdict != "violates":
        return one.verdict or "no verdict"
    i = report.versions.index(one)
    violated = sum(row.statuses[i] == "violated" and clauses()[row.id].fails_a_check for row in report.clauses)
    return f"violates {violated} of {len(report.clauses)} clauses"


def _print_compared(number: int, one: ComparedEntry, report: ComparisonReport, page: Page) -> None:
    violation = one.violation
    page.heading(f"{number}. {violation.name}: ", violation.summary)
    version = next(version for version in report.versions if version.label == one.version)
    if len(report.versions) > 2 or one.change == "undecided":
        by = ", ".join(f"{v.label} {shown}" for v, shown in zip(report.versions, one.shown, strict=True))
        page.row("by", by)
    if violation.where is not None:
        page.row("at", line_text(violation.where, version.subject))
    page.row("expected", violation.evidence.expected)
    page.row("seen", violation.evidence.seen)
    statuses = next(row.statuses for row in report.clauses if row.id == violation.clause)
    if one.change == "came in" and statuses[0] == "not exercised":
        page.row("note", f"no run of {report.versions[0].label} got that far, so it may be older")
    if one.change == "fixed" and statuses[-1] == "not exercised":
        page.row("note", f"no run of {report.versions[-1].label} got that far, so it may still be there")
    page.line()
    # One line, however long: it is to be copied.
    page.line(Text("   " + one.command))
    page.line()


def _print_clauses(report: ComparisonReport, page: Page) -> None:
    """The table; with many versions, several of them one below the other."""
    names = [one.label for one in report.versions]
    level = 9 if len(names) <= _MOST_BESIDE_LEVEL else 0
    for start in range(0, len(names), _MOST_COLUMNS):
        chosen = slice(start, start + _MOST_COLUMNS)
        if start:
            page.line()
        head = "".join(f"{name:<{_COLUMN}}" for name in names[chosen])
        page.line(Text(f"{'clause':<16}{'level':<{level}.{level}}{head}".rstrip(), style="bold"))
        for row in report.clauses:
            line = Text(f"{row.id:<16}{row.level:<{level}.{level}}")
            for status in row.statuses[chosen]:
                line += Text(f"{status:<{_COLUMN}}", style=STATUS_STYLES[status])
            line.rstrip()
            page.line(line)


def _notes(report: ComparisonReport) -> Iterator[str]:
    """What is to be said of all versions once, and of each by itself."""
    shared = set.intersection(*(set(one.notes) for one in report.versions))
    yield from (note for note in report.versions[0].notes if note in shared)
    for one in report.versions:
        yield from (f"{one.label}: {note}" for note in one.notes if note not in shared)
