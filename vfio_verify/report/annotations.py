"""The report as GitHub Actions shows it: workflow commands that mark the source, and a summary page in Markdown."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from vfio_verify.report.case_text import reproduce_line
from vfio_verify.report.location import Location, Locations
from vfio_verify.report.report import Report
from vfio_verify.report.text import as_taken, behind_lines, line_text, violation_text
from vfio_verify.report.violations import ViolationEntry
from vfio_verify.values.conventions import conventions
from vfio_verify.values.markup import fenced, prose, visible
from vfio_verify.values.words import number_of

SHOWN = 5
"""Violations that are marked; GitHub itself shows no more than ten of a step."""
_LONGEST = 3000
"""Characters of one message."""
SUMMARY_LIMIT = 1000 << 10
"""Bytes. GitHub drops a step's summary that is larger than 1 MiB."""


def commands(report: Report, places: Locations) -> Iterator[str]:
    """A line for each of the first violations, and one that says how many more there are. Advice comes last."""
    placed = zip(report.violations, places.violations, strict=True)
    ordered = sorted(placed, key=lambda pair: pair[0].is_advice)
    for violation, place in ordered[:SHOWN]:
        kind = "notice" if violation.is_advice else "error"
        properties = {**_place(place), "title": f"vfio-verify: {violation.clause}"}
        yield _command(kind, properties, _message(violation, report))
    if (more := len(ordered) - SHOWN) > 0:
        text = f"{number_of(more, 'more violation')} of {report.subject.function}(): see the report"
        yield _command("notice", {**_place(places.subject), "title": "vfio-verify"}, text)
    for entry in report.unconfirmed[:SHOWN]:
        if not entry.is_advice:
            yield _command("warning", {**_place(places.subject), "title": f"vfio-verify: {entry.clause}"}, entry.told)
    if report.behind:
        for violation, place in list(zip(report.further, places.further, strict=True))[:SHOWN]:
            properties = {**_place(place), "title": f"vfio-verify: {violation.clause}, behind the first fault"}
            yield _command("notice", properties, f"{as_taken(report.behind)}:\n{_message(violation, report.behind)}")
    for kind, text in report.shortcomings.items():
        yield _command("error" if kind == "no verdict" else "warning", {"title": "vfio-verify"}, text)


def stopped_commands() -> tuple[str, str]:
    """Two lines. Between them GitHub obeys no command: what a report quotes of a subject or a patch could be one."""
    token = secrets.token_hex(16)
    return f"::stop-commands::{token}", f"::{token}::"


def _place(location: Location | None) -> dict[str, str]:
    if location is None:
        return {}
    return {"file": location.path, **({} if location.line is None else {"line": str(location.line)})}


def _message(violation: ViolationEntry, report: Report) -> str:
    evidence = violation.evidence
    at = f"\nat: {line_text(violation.where, report.subject)}" if violation.where is not None else ""
    text = f"{violation.summary}{at}\nexpected: {evidence.expected}\nseen: {evidence.seen}"[:_LONGEST]
    line = reproduce_line(violation.case, report)
    return f"{text}\n{line}" if len(text) + len(line) < _LONGEST else text


def _command(kind: str, properties: dict[str, str], message: str) -> str:
    fields = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{kind} {fields}::{_data(message)}"


def _data(text: str) -> str:
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(report: Report) -> bytes:
    """The page of a job: verdict, the first violations whole, and how each clause fared."""
    subject = report.subject
    interrupted = "; interrupted" if report.interrupted else ""
    verdict = f"{report.verdict or 'has no verdict'}{subject.condition}"
    lines = [f"## {prose(subject.shown)} {verdict}{interrupted}", ""]
    if subject.title:
        lines += [prose(subject.title), ""]
    for assumed in subject.assume:
        lines += [prose(f"{assumed}: {conventions()[assumed].world}"), ""]
    lines += [report.extent, ""]
    lines += _violations(report.violations, report)
    lines += ["| clause | level | status | runs |", "|---|---|---|---:|"]
    lines += [f"| {prose(e.id)} | {e.level} | {e.status} | {e.checked:,} |" for e in report.clauses]
    lines += ["", *(line for note in report.notes for line in (prose(note), ""))]
    if report.behind:
        heading, *said = (prose(line) for line in behind_lines(report, report.behind))
        lines += [f"## {heading}", "", *(part for line in said for part in (line, ""))]
        lines += _violations(report.further, report.behind, len(report.violations))
    text = "\n".join(lines).encode()
    if len(text) > SUMMARY_LIMIT:
        return f"{lines[0]}\n\nThe report is too long for this page.\n\n".encode()
    return text


def _violations(violations: Sequence[ViolationEntry], report: Report, told: int = 0) -> Iterator[str]:
    """The first violations whole, of which so many are told before these, and what is unconfirmed."""
    for number, violation in enumerate(violations[:SHOWN], told + 1):
        yield from (f"### {number}. {prose(violation.name)}: {prose(violation.summary)}", "")
        yield from (fenced(violation_text(number, violation, report)), "")
    if (more := len(violations) - SHOWN) > 0:
        yield from (f"{more} more in the report.", "")
    for unsure in report.unconfirmed:
        yield from (prose(unsure.told), "")
