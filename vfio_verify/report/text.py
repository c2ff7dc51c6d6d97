"""The report as text that a person wants to read, and to paste into a review: verdict first, plain ASCII."""

from __future__ import annotations

import io
import itertools
import shlex
import textwrap
from collections.abc import Iterable, Iterator
from itertools import zip_longest

import msgspec
from rich.console import Console
from rich.text import Text

from vfio_verify.campaign.line_coverage import LineCoverage
from vfio_verify.report.report import ClauseEntry, Report, ViolationEntry
from vfio_verify.values.case import (
    PAGE,
    Action,
    Call,
    Case,
    Change,
    Device,
    Drop,
    End,
    Fault,
    Fork,
    RamBlock,
    Region,
    Segment,
)
from vfio_verify.values.source_line import SourceLine
from vfio_verify.values.spec import Clause, clauses
from vfio_verify.values.words import has_errno, kernel_fault_text, kernel_texts, place, step_name

_ROWS_SHOWN = 12
_WHOLE = 10
"""Violations that are shown whole; the others have a line each."""
_NAME_WIDTH = 12
_LONGEST_LINE = 120
_MAX_ARGUMENT = 100_000
"""Bytes of an argument; Linux takes no more than 128 KiB."""
_PARTS_SHOWN = 12
_STYLES = {"holds": "green", "violated": "bold red", "unconfirmed": "bold yellow", "not exercised": "yellow"}


class _Page:
    """Lines on a console, wrapped by us: no trailing blanks, so that what is pasted is clean."""

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
        column = indent + _NAME_WIDTH
        blank = " " * (len(text) - len(text.lstrip()))
        lines = textwrap.wrap(
            text,
            self._width - column,
            break_on_hyphens=False,
            break_long_words=False,
            initial_indent=blank,
            subsequent_indent=blank + "  ",
        )
        for i, line in enumerate(lines or [""]):
            label = Text(" " * indent + (name if not i else "").ljust(_NAME_WIDTH), style="cyan")
            self.line(label + Text(line))


def print_report(report: Report, console: Console) -> None:
    """Write a whole report."""
    page = _Page(console)
    _print_verdict(report, page)
    for number, violation in enumerate(report.violations[:_WHOLE], 1):
        _print_violation(number, violation, report, page)
    _print_in_lines(report.violations[_WHOLE:], page)
    for entry in report.unconfirmed:
        page.paragraph(entry.told)
        page.line()
        # One line, however long: it is to be copied.
        page.line(Text("   " + reproduce_line(entry.case, report)))
        page.line()
    _print_clauses(report.clauses, page)
    _print_kernel_faults(report, page)
    if report.coverage is not None:
        page.line()
        for text in coverage_lines(report.coverage):
            page.paragraph(text, indent=0 if text.startswith("Lines") else 3)
    silent = [entry.id for entry in report.clauses if entry.status == "not exercised"]
    for note in (*([_why_silent(report, silent)] if silent else []), *report.notes):
        page.line()
        page.paragraph(note)


def violation_text(number: int, violation: ViolationEntry, report: Report) -> str:
    """One violation as it stands in the report, without colours."""
    page = io.StringIO()
    console = Console(file=page, width=100, color_system=None, highlight=False, markup=False, emoji=False)
    _print_violation(number, violation, report, _Page(console))
    return page.getvalue()


def print_clause(report: Report, clause: str, console: Console) -> None:
    """Write what a report says of the violations of one clause."""
    page = _Page(console)
    for number, violation in enumerate(report.violations, 1):
        if clause in violation.clauses:
            _print_violation(number, violation, report, page)


def _print_verdict(report: Report, page: _Page) -> None:
    spec = clauses()
    violated = [entry for entry in report.clauses if entry.status == "violated" and spec[entry.id].fails_a_check]
    subject = report.subject
    name = Text(f"{subject.function}()" if subject.kind == "C" else subject.name, style="bold")
    if violated:
        page.line(name + Text(f" violates {len(violated)} of {len(report.clauses)} clauses", style="bold red"))
    elif report.verdict == "conforms":
        page.line(name + Text(" conforms", style="bold green"))
    else:
        verdict = "no verdict" if report.verdict is None else "unconfirmed"
        page.line(name + Text(f": {verdict}: {'; '.join(report.doubts)}", style="bold yellow"))
    if subject.title:
        page.paragraph(subject.title)
    if subject.place:
        page.paragraph(f"{subject.place}: {subject.signature}")
    interrupted = "; interrupted" if report.interrupted else ""
    counts = f"{report.examples:,} layouts, {report.runs:,} calls with every fault position"
    page.paragraph(f"{counts}, seed {report.seed}{interrupted}")
    page.line()


def _print_violation(number: int, violation: ViolationEntry, report: Report, page: _Page) -> None:
    clause = clauses()[violation.clause]
    advice = "" if clause.fails_a_check else " (advice)"
    page.heading(f"{number}. {clause.id}{advice}: ", violation.summary)
    page.paragraph(clause.rule, indent=3, style="dim")
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
        page.row("at", line_text(violation.where, report))
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


def line_text(line: SourceLine, report: Report) -> str:
    """A line of the subject, and what it says: ``device.c:775: off = info->offset;``."""
    function = f", {line.function}()" if line.function and line.function != report.subject.function else ""
    text = line.text if len(line.text) <= _LONGEST_LINE else f"{line.text[:_LONGEST_LINE]}..."
    return f"{short_name(line.file)}:{line.line}{function}" + (f": {printable(text)}" if text else "")


def short_name(file: str) -> str:
    """A file without the directories that lead to it."""
    return printable(file.rsplit("/", 1)[-1])


def printable(text: str) -> str:
    """Text of a subject's, without what a terminal would obey."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text.replace("\t", " "))


def _beside(label: str, line: SourceLine | None) -> str:
    """A label, and at the right end of its column the number of a line."""
    return label if line is None else f"{label:<5}{line.line:>5}"


def _elsewhere(line: SourceLine | None, report: Report) -> str:
    """The name of a call's file, where that is not the function's own."""
    own = (report.subject.place or "").rpartition(":")[0]
    return "" if line is None or line.file == own else f"  [{short_name(line.file)}]"


def calls_of(case: Case) -> Iterator[tuple[str, Case]]:
    """The calls that a case makes in one process, each with its title; what is called again and again, once."""
    n, at = len(case.earlier) + 1, 0
    for before, group in itertools.groupby(case.earlier):
        first, at = at + 1, at + sum(1 for _ in group)
        numbers = f"call {at:,}" if first == at else f"calls {first:,} to {at:,}"
        yield f"{numbers} of {n:,} in one process", before
    yield f"call {n:,} of {n:,} in one process" if case.earlier else "", case


def _standing(violation: ViolationEntry) -> str:
    """How grave it is, how often it was seen, and what follows from it."""
    runs = f" in {violation.runs:,} runs" if violation.runs > 1 else ""
    also = f"; also: {', '.join(dict.fromkeys(one.clause for one in violation.consequences))}"
    return f"Severity {violation.severity}{runs}{also if violation.consequences else ''}."


def _print_in_lines(violations: tuple[ViolationEntry, ...], page: _Page) -> None:
    if not violations:
        return
    n = len(violations)
    page.paragraph(f"{n} more violation{'s' * (n > 1)}, whole in the JSON report:")
    for number, violation in enumerate(violations, _WHOLE + 1):
        page.paragraph(f"{number}. {violation.clause} ({violation.severity}): {violation.summary}", indent=3)
    page.line()


def reproduce_line(case: Case, report: Report) -> str:
    """The command that judges this case alone, or where the case is if no command line can hold it."""
    name = shlex.quote(report.subject.name)
    function = f" --function {report.subject.function}" if report.subject.kind == "C" else ""
    policy = "" if report.policy == "same-block" else f" --policy {report.policy}"
    text = shlex.quote(_short_json(case))
    if len(text) > _MAX_ARGUMENT:
        text = "FILE  # the case is in the JSON of this report, and in what --corpus keeps"
    return f"vfio-verify check {name}{function}{policy} --case {text}"


def _short_json(case: Case) -> str:
    """A case without the fields that have their usual values."""
    fields = msgspec.to_builtins(case)
    usual = {"errp": "object", "earlier": (), "mmap_rule": "region", "region_fds": False}
    for record in (fields, *fields["devices"]):
        for name in [name for name, value in record.items() if name in usual and value == usual[name]]:
            del record[name]
    return msgspec.json.encode(fields).decode()


def case_rows(case: Case) -> Iterator[tuple[str, str]]:
    """A case as a small table: what is there, the iovec as it should lie, what fails."""
    for number, device in enumerate(case.devices):
        yield from _device_rows(number, device)
    for number, block in enumerate(case.ram_blocks):
        if block.device is None:
            yield f"block {number}", f"{case.block_size(number):#x} bytes of plain RAM{_touches(block)}"
        elif (area := case.area_of(number)) is not None and case.region_of(number) is not None:
            where = f"device {block.device}, {place(area.offset, f'region {block.region}')}"
            yield f"block {number}", f"{where}, {case.block_size(number):#x} bytes{_touches(block)}"
    calls: tuple[Case | Call, ...] = (case, *case.concurrent)
    for number, call in enumerate(calls, 1):
        thread = f"thread {number}" if case.concurrent else ""
        yield from _iovec_rows(call.iovec, thread)
        yield "total_size", f"{call.total_size:#x}"
    if case.errp == "null":
        yield "errp", "NULL"
    for fault in case.fault_plan:
        yield "fault", fault_text(fault)
    if case.kernel_fault is not None:
        yield "kernel", kernel_fault_text(case.kernel_fault)
    if case.page_size != PAGE:
        yield "host pages", f"{case.page_size:#x} bytes"
    for rule in kernel_texts(case.kernel):
        yield "kernel", rule
    if case.variables == "zero":
        yield "built with", "automatic variables that are zero until they are set"
    calls_made = 0
    for number, action in enumerate(case.sequence, 1):
        calls_made += isinstance(action, Call)
        yield f"step {number}", action_text(action, calls_made)


def _touches(block: RamBlock) -> str:
    return ", right behind the block before it" if block.touches else ""


def _iovec_rows(iovec: tuple[Segment, ...], thread: str) -> Iterator[tuple[str, str]]:
    if not iovec:
        yield thread or "iovec", "an empty iovec" if thread else "empty"
    at = 0
    rows = []
    for number, segment in enumerate(iovec):
        base = "in no block" if segment.block is None else place(segment.offset, f"block {segment.block}")
        rows.append(f"{number:>3}  {place(at):<10} {base:<22} {segment.length:#x} bytes")
        at += segment.length
    if len(rows) > _ROWS_SHOWN:
        rows[_ROWS_SHOWN - 2 : -2] = [f"...  {len(rows) - _ROWS_SHOWN} more"]
    for i, row in enumerate(rows):
        yield "" if i else thread or "iovec", row


def action_text(action: Action, call: int) -> str:
    """A step of a sequence; `call` numbers the calls, of which the case's own is number 0."""
    match action:
        case Call(iovec, total_size, fault_plan):
            pieces = [
                f"{'in no block' if s.block is None else place(s.offset, f'block {s.block}')}, {s.length:#x} bytes"
                for s in iovec
            ]
            if len(pieces) > _ROWS_SHOWN:
                pieces[_ROWS_SHOWN - 2 : -2] = [f"... {len(pieces) - _ROWS_SHOWN} more"]
            text = f"call {call}: {'; '.join(pieces) or 'an empty iovec'}"
            if total_size != sum(s.length for s in iovec):
                text += f"; total_size {total_size:#x}"
            return "; ".join([text, *(f"fault: {fault_text(fault)}" for fault in fault_plan)])
        case End(mapping):
            return f"the caller ends mapping {mapping}"
        case Change(block, offset):
            return f"the device changes the word at {place(offset, f'block {block}')}"
        case Drop(block):
            return f"block {block} goes, and its host address with it"
        case Fork():
            return "the process forks"


def _device_rows(number: int, device: Device) -> Iterator[tuple[str, str]]:
    traits = [
        *(["its driver maps nothing outside the sparse areas"] if device.mmap_rule == "areas" else []),
        *(["any page of its file can be mapped"] if device.mmap_rule == "file" else []),
        *(["a file for each region"] if device.region_files else []),
        *(["a descriptor for each region"] if device.region_fds and not device.region_files else []),
    ]
    yield f"device {number}", "; ".join([*map(_region_text, device.regions), *traits]) or "no regions"


def _region_text(region: Region) -> str:
    text = f"region {region.index}, {region.size:#x} bytes"
    if region.areas is not None:
        areas = ", ".join(f"[{a.offset:#x}, {a.offset + a.size:#x})" for a in region.areas)
        text += f", sparse: {areas}" if region.msix is None else f", without its MSI-X table: {areas}"
    if region.msix == "mappable":
        text += ", its MSI-X table may be mapped"
    if region.offset is not None:
        text += f", at {region.offset:#x} of its file"
    if not region.writable:
        text += ", read-only"
    return text if region.mappable else text + ", not mappable"


def fault_text(fault: Fault) -> str:
    """A planned failure in words."""
    late = ", after what MAP_FIXED covers is gone" if fault.when == "late" else ""
    since = " and all later ones fail" if fault.persistent else " fails"
    reason = f" with {fault.errno}" if has_errno(fault.step) else ""
    return f"{step_name(fault.step)} number {fault.nth}{since}{reason}{late}"


def _print_clauses(entries: Iterable[ClauseEntry], page: _Page) -> None:
    page.line(Text(f"{'clause':<16}{'level':<9}{'status':<15}{'runs':>9}", style="bold"))
    for entry in entries:
        status = Text(f"{entry.status:<15}", style=_STYLES[entry.status])
        page.line(Text(f"{entry.id:<16}{entry.level:<9}") + status + Text(f"{entry.checked:>9,}"))


def _print_kernel_faults(report: Report, page: _Page) -> None:
    if not report.kernel_faults:
        return
    runs = sum(entry.runs for entry in report.kernel_faults)
    kinds = sum(entry.runs > 0 for entry in report.kernel_faults)
    page.line()
    page.paragraph(
        f"Failures that the kernel itself made: {kinds} of {len(report.kernel_faults)} kinds, {runs:,} calls."
    )
    kinds_by_reason: dict[tuple[str, str], list[str]] = {}
    for entry in report.kernel_faults:
        if entry.reason is not None:
            what = "not exercised" if not entry.runs else "in part"
            kinds_by_reason.setdefault((what, entry.reason), []).append(entry.kind)
    for (what, reason), names in kinds_by_reason.items():
        page.paragraph(f"{', '.join(names)}: {what}: {reason}.", indent=3)


def coverage_lines(coverage: LineCoverage) -> Iterator[str]:
    """One line where every line was reached; else one more for each part that was not, or that was not compiled."""
    if coverage.reached == coverage.lines:
        yield f"Lines of the subject that ran: all {coverage.lines}."
    else:
        yield f"Lines of the subject that ran: {coverage.reached} of {coverage.lines}."
    for left_out in coverage.compiled_out[:_PARTS_SHOWN]:
        yield f"{_span(left_out.file, left_out.first, left_out.last)} compiled out: {printable(left_out.why)}"
    for part in coverage.not_reached[:_PARTS_SHOWN]:
        text = part.text if len(part.text) <= _LONGEST_LINE else f"{part.text[:_LONGEST_LINE]}..."
        yield f"{_span(part.file, part.first, part.last)} not reached" + (f": {printable(text)}" if text else "")
    more = sum(max(0, len(parts) - _PARTS_SHOWN) for parts in (coverage.compiled_out, coverage.not_reached))
    if more:
        yield f"and {more} more parts"


def _span(file: str, first: int, last: int) -> str:
    return f"{short_name(file)}:{first}" + (f"-{last}" if last > first else "")


def _why_silent(report: Report, silent: list[str]) -> str:
    if any("ACCEPTS_VALID" in v.clauses for v in report.violations):
        return f"Not exercised: {', '.join(silent)}. The subject maps no layout on which they could be seen."
    return f"Not exercised: {', '.join(silent)}. No run got as far as they ask about."


def _severity_text(clause: Clause) -> str:
    parts: list[str] = [clause.severity]
    if clause.after_fault is not None:
        parts.append(f"{clause.after_fault} where a step has to fail")
    parts += [f"{severity} for {cause!r}" for cause, severity in clause.severities.items()]
    return "; ".join(parts)


def print_spec(chosen: Iterable[Clause], console: Console) -> None:
    """Write clauses with all that the spec says of them."""
    page = _Page(console)
    for clause in chosen:
        page.line(Text(clause.id, style="bold") + Text(f"  {clause.level}", style="dim"))
        page.paragraph(clause.rule, indent=3)
        page.row("source", clause.source)
        page.row("evidence", clause.evidence)
        page.row("severity", _severity_text(clause))
        page.row("tests", ", ".join(clause.tests))
        page.row("subjects", ", ".join(clause.subjects))
        page.line()
