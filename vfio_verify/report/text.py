"""The report as text that a person wants to read, and to paste into a review: verdict first, plain ASCII."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from rich.console import Console
from rich.text import Text

from vfio_verify.campaign.line_coverage import LineCoverage
from vfio_verify.report.case_text import calls_of, case_rows, reproduce_line, row_lines
from vfio_verify.report.report import ProofEntry, Report, SubjectEntry
from vfio_verify.report.violations import ViolationEntry
from vfio_verify.values import markup
from vfio_verify.values.conventions import conventions, supposed
from vfio_verify.values.source_line import SourceLine
from vfio_verify.values.spec import clauses
from vfio_verify.values.words import number_of

_WHOLE = 10
"""Violations that are shown whole; the others have a line each."""
_LONGEST_LINE = 120
_PARTS_SHOWN = 12
STATUS_STYLES = {
    "holds": "green",
    "proved": "bold green",
    "violated": "bold red",
    "unconfirmed": "bold yellow",
    "not exercised": "yellow",
    "not decided": "yellow",
}


class Page:
    """Lines on a console, wrapped here and not by Rich: without trailing blanks, so that what is pasted is clean."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, 100)

    def line(self, text: Text | str = "") -> None:
        self._console.print(text, soft_wrap=True)

    def paragraph(self, text: str, indent: int = 0, style: str = "") -> None:
        for line in textwrap.wrap(text, self._width - indent, break_on_hyphens=False):
            self.line(Text(" " * indent + line, style=style))

    def heading(self, start: str, text: str) -> None:
        lines = textwrap.wrap(start + text, self._width, break_on_hyphens=False, subsequent_indent="   ")
        for i, line in enumerate(lines):
            cut = 0 if i else len(start)
            self.line(Text(line[:cut], style="bold red") + Text(line[cut:], style="bold"))

    def row(self, name: str, text: str, indent: int = 3) -> None:
        """A name in its column, and a text beside it."""
        for column, line in row_lines(name, text, self._width, indent):
            self.line(Text(column, style="cyan") + Text(line))


def print_report(report: Report, console: Console) -> None:
    """Write a whole report."""
    page = Page(console)
    _print_verdict(report, page)
    _print_violations(report.violations, report, page)
    _print_clauses(report, page)
    _print_kernel_faults(report, page)
    if report.coverage is not None:
        page.line()
        for i, text in enumerate(coverage_lines(report.coverage)):
            page.paragraph(text, indent=3 if i else 0)
    silent: dict[str, list[str]] = {}
    for clause in report.clauses:
        if clause.status == "not exercised":
            silent.setdefault(report.why_not_exercised(clause.id), []).append(clause.id)
    for note in (*(f"Not exercised: {', '.join(ids)}: {why}." for why, ids in silent.items()), *report.notes):
        page.line()
        page.paragraph(note)
    if report.behind:
        page.line()
        _print_behind(report, report.behind, page)


def _print_violations(violations: Sequence[ViolationEntry], report: Report, page: Page, told: int = 0) -> None:
    """Violations, of which so many are told before these, and what is unconfirmed."""
    for number, violation in enumerate(violations[:_WHOLE], told + 1):
        _print_violation(number, violation, report, page)
    _print_in_lines(violations[_WHOLE:], page, told + _WHOLE)
    for entry in report.unconfirmed:
        page.paragraph(entry.told)
        page.line()
        # One line, however long: it is to be copied.
        page.line(Text("   " + reproduce_line(entry.case, report)))
        page.line()


def _print_behind(report: Report, behind: Report, page: Page) -> None:
    """The second part: what would be found if the first fault were none."""
    heading, *lines = behind_lines(report, behind)
    page.paragraph(heading, style="bold")
    for line in lines:
        page.paragraph(line)
    page.line()
    _print_violations(report.further, behind, page, len(report.violations))


def as_taken(behind: Report) -> str:
    """Under what a second part holds, as a clause without its end."""
    assume = behind.subject.assume
    return f"{supposed(assume)}, as this code takes {'it' if len(assume) == 1 else 'them'}"


def behind_lines(report: Report, behind: Report) -> Iterator[str]:
    """What is said of a second part before its violations: what is assumed, what QEMU has instead, how much was run."""
    assume = behind.subject.assume
    if report.further:
        found = number_of(len(report.further), "more violation")
    else:
        found = "nothing more is confirmed" if behind.unconfirmed or behind.shortcomings else "no more violations"
    yield f"{as_taken(behind)}: {found}."
    truth = " ".join(conventions()[assumed].qemu for assumed in assume)
    option = " ".join(f"--assume {assumed}" for assumed in assume)
    yield f"{truth} This has no part in the verdict; {option} checks in such a world alone."
    yield "; ".join((behind.extent, *behind.shortcomings.values()))


def violation_text(number: int, violation: ViolationEntry, report: Report, width: int = 100) -> str:
    """One violation as it stands in the report, without colours."""
    return _plain(lambda page: _print_violation(number, violation, report, page), width)


def behind_text(report: Report, behind: Report, width: int = 100) -> str:
    """The second part as it stands in the report, without colours."""
    return _plain(lambda page: _print_behind(report, behind, page), width)


def _plain(write: Callable[[Page], None], width: int) -> str:
    page = io.StringIO()
    console = Console(file=page, width=width, color_system=None, highlight=False, markup=False, emoji=False)
    write(Page(console))
    return page.getvalue()


def _print_verdict(report: Report, page: Page) -> None:
    spec = clauses()
    violated = [entry for entry in report.clauses if entry.status == "violated" and spec[entry.id].fails_a_check]
    subject = report.subject
    name = Text(subject.shown, style="bold")
    if violated:
        what = f" violates {len(violated)} of {len(report.clauses)} clauses{subject.condition}"
        page.line(name + Text(what, style="bold red"))
    elif report.verdict == "conforms":
        scope = " in all of a small scope" if report.proof and report.proof.inputs else ""
        page.line(name + Text(f" conforms{scope}{subject.condition}", style="bold green"))
    elif report.verdict == "proved":
        page.line(name + Text(f" is proved: {number_of(len(report.clauses), 'clause')}", style="bold green"))
    else:
        verdict = report.verdict or "no verdict"
        page.line(name + Text(f": {verdict}: {'; '.join(report.doubts)}", style="bold yellow"))
    for assumed in subject.assume:
        page.paragraph(f"{assumed}: {conventions()[assumed].world}")
    if subject.title:
        page.paragraph(subject.title)
    if subject.place:
        page.paragraph(f"{subject.place}: {subject.signature}")
    interrupted = "; interrupted" if report.interrupted else ""
    page.paragraph(report.extent + interrupted)
    page.line()


def _print_violation(number: int, violation: ViolationEntry, report: Report, page: Page) -> None:
    page.heading(f"{number}. {violation.name}: ", violation.summary)
    page.paragraph(clauses()[violation.clause].rule, indent=3, style="dim")
    page.paragraph(_standing(violation), indent=3, style="dim")
    page.line()
    for title, case in calls_of(violation.case):
        if title:
            page.line(f"   {title}")
        for name, text in case_rows(case):
            page.row(name, text)
        page.line()
    evidence = violation.evidence
    if violation.where is not None:
        page.row("at", line_text(violation.where, report.subject))
    page.row("expected", evidence.expected)
    page.row("seen", evidence.seen)
    if evidence.error and repr(evidence.error) not in evidence.seen:
        page.row("error", repr(evidence.error))
    for i, (call, line) in enumerate(zip_longest(evidence.calls, evidence.lines[: len(evidence.calls)])):
        page.row(_beside("" if i else "calls", line), call + _elsewhere(line, report))
    page.line()
    # One line, however long: it is to be copied.
    page.line(Text("   " + reproduce_line(violation.case, report)))
    page.line()


def line_text(line: SourceLine, subject: SubjectEntry) -> str:
    """A line of the subject, and what it says: ``device.c:775: off = info->offset;``."""
    function = f", {line.function}()" if line.function and line.function != subject.function else ""
    return f"{short_name(line.file)}:{line.line}{function}" + (f": {_cut(line.text)}" if line.text else "")


def _cut(text: str) -> str:
    """A line of the subject's, no longer than fits beside others."""
    return printable(text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}...")


def short_name(file: str) -> str:
    """A file without the directories that lead to it."""
    return printable(file.rsplit("/", 1)[-1])


def printable(text: str) -> str:
    """Text of a subject without what a terminal would obey."""
    return markup.printable(text.replace("\t", " "))


def _beside(label: str, line: SourceLine | None) -> str:
    """A label, and at the right end of its column the number of a line."""
    return label if line is None else f"{label:<5}{line.line:>5}"


def _elsewhere(line: SourceLine | None, report: Report) -> str:
    """The name of a call's file, unless it is the function's own."""
    own = (report.subject.place or "").rpartition(":")[0]
    return "" if line is None or line.file == own else f"  [{short_name(line.file)}]"


def _standing(violation: ViolationEntry) -> str:
    """The severity of a violation, how many runs have shown it, and what else it violates."""
    runs = f" Seen in {violation.runs:,} runs." if violation.runs > 1 else ""
    also = f" Also violates {', '.join(dict.fromkeys(one.clause for one in violation.consequences))}."
    return f"Severity {violation.severity}.{runs}{also if violation.consequences else ''}"


def _print_in_lines(violations: Sequence[ViolationEntry], page: Page, told: int) -> None:
    if not violations:
        return
    page.paragraph(f"{number_of(len(violations), 'more violation')}, in full in the JSON report:")
    for number, violation in enumerate(violations, told + 1):
        page.paragraph(f"{number}. {violation.clause} ({violation.severity}): {violation.summary}", indent=3)
    page.line()


def _print_clauses(report: Report, page: Page) -> None:
    if report.proof:
        _print_proof(report, report.proof, page)
        return
    page.line(Text(f"{'clause':<16}{'level':<9}{'status':<15}{'runs':>9}", style="bold"))
    for entry in report.clauses:
        status = Text(f"{entry.status:<15}", style=STATUS_STYLES[entry.status])
        page.line(Text(f"{entry.id:<16}{entry.level:<9}") + status + Text(f"{entry.checked:>9,}"))


def _print_proof(report: Report, proof: ProofEntry, page: Page) -> None:
    for one in proof.disagreements:
        page.paragraph(one.told, style="bold red")
        page.line()
        page.line(Text("   " + reproduce_line(one.case, report)))
        page.line()
    page.line(Text(f"{'clause':<16}{'level':<9}status", style="bold"))
    for entry in report.clauses:
        page.line(Text(f"{entry.id:<16}{entry.level:<9}") + Text(entry.told, style=STATUS_STYLES[entry.status]))
    for text in (proof.meaning, f"Bounds: {proof.bounds}"):
        page.line()
        page.paragraph(text)


def _print_kernel_faults(report: Report, page: Page) -> None:
    if not report.kernel_faults:
        return
    runs = number_of(sum(entry.runs for entry in report.kernel_faults), "call")
    kinds = sum(entry.runs > 0 for entry in report.kernel_faults)
    page.line()
    page.paragraph(f"Failures that the kernel itself made: {kinds} of {len(report.kernel_faults)} kinds, in {runs}.")
    kinds_by_reason: dict[tuple[str, str], list[str]] = {}
    for entry in report.kernel_faults:
        if entry.reason is not None:
            what = "exercised in part" if entry.runs else "not exercised"
            kinds_by_reason.setdefault((what, entry.reason), []).append(entry.kind)
    for (what, reason), names in kinds_by_reason.items():
        page.paragraph(f"{', '.join(names)} {what}: {reason}.", indent=3)


def coverage_lines(coverage: LineCoverage) -> Iterator[str]:
    """A line with the counts, and one for each part that was not reached or not compiled."""
    if coverage.reached == coverage.lines:
        yield f"Lines of the subject that ran: all {coverage.lines}."
    else:
        yield f"Lines of the subject that ran: {coverage.reached} of {coverage.lines}."
    for left_out in coverage.compiled_out[:_PARTS_SHOWN]:
        yield f"{_span(left_out.file, left_out.first, left_out.last)} compiled out: {printable(left_out.why)}"
    for part in coverage.not_reached[:_PARTS_SHOWN]:
        text = f": {_cut(part.text)}" if part.text else ""
        yield f"{_span(part.file, part.first, part.last)} not reached{text}"
    more = sum(max(0, len(parts) - _PARTS_SHOWN) for parts in (coverage.compiled_out, coverage.not_reached))
    if more:
        yield f"and {more} more parts"


def _span(file: str, first: int, last: int) -> str:
    return f"{short_name(file)}:{first}" + (f"-{last}" if last > first else "")
