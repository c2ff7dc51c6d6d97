"""The report as GitHub Actions shows it: workflow commands that mark the source, and a summary page in Markdown."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence

from vfio_verify.report.location import Location
from vfio_verify.report.report import Report, ViolationEntry, left_out_text
from vfio_verify.report.text import line_text, reproduce_line, violation_text
from vfio_verify.values.markup import fenced, prose, visible
from vfio_verify.values.spec import clauses

SHOWN = 5
"""Violations that are marked; GitHub itself shows no more than ten of a step."""
_LONGEST = 3000
"""Characters of one message."""
SUMMARY_LIMIT = 1000 << 10
"""Bytes. GitHub drops a step's summary that is larger than 1 MiB."""


def commands(report: Report, location: Location | None, places: Sequence[Location | None] = ()) -> Iterator[str]:
    """A line for each of the first violations, and one that says how many there are besides. Advice comes last.

    `location` is the subject's, and `places` are the violations'.
    """
    spec = clauses()
    placed = list(zip(report.violations, places or [location] * len(report.violations), strict=True))
    ordered = sorted(placed, key=lambda pair: not spec[pair[0].clause].fails_a_check)
    for violation, place in ordered[:SHOWN]:
        kind = "error" if spec[violation.clause].fails_a_check else "notice"
        properties = {**_place(place), "title": f"vfio-verify: {violation.clause}"}
        yield _command(kind, properties, _message(violation, report))
    if (more := len(ordered) - SHOWN) > 0:
        text = f"{more} more violation{'s' * (more > 1)} of {report.subject.function}(): see the report"
        yield _command("notice", {**_place(location), "title": "vfio-verify"}, text)
    for entry in report.unconfirmed[:SHOWN]:
        if spec[entry.clause].fails_a_check:
            yield _command("warning", {**_place(location), "title": f"vfio-verify: {entry.clause}"}, entry.told)
    if report.interrupted:
        yield _command("warning", {"title": "vfio-verify"}, "interrupted: the report is of a part of the check")
    if report.left_out:
        yield _command("warning", {"title": "vfio-verify"}, f"left out: {left_out_text(report.left_out)}")
    if report.verdict is None:
        yield _command("error", {"title": "vfio-verify"}, "no verdict: nothing was judged")


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
    at = f"\nat: {line_text(violation.where, report)}" if violation.where is not None else ""
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
    name = f"{subject.function}()" if subject.kind == "C" else subject.name
    lines = [
        f"## {prose(name)} {report.verdict or 'has no verdict'}{'; interrupted' if report.interrupted else ''}",
        "",
    ]
    if subject.title:
        lines += [prose(subject.title), ""]
    lines += [f"{report.examples:,} layouts, {report.runs:,} calls with every fault position, seed {report.seed}", ""]
    for number, violation in enumerate(report.violations[:SHOWN], 1):
        advice = "" if clauses()[violation.clause].fails_a_check else " (advice)"
        lines += [f"### {number}. {prose(violation.clause)}{advice}: {prose(violation.summary)}", ""]
        lines += [fenced(violation_text(number, violation, report)), ""]
    if (more := len(report.violations) - SHOWN) > 0:
        lines += [f"{more} more in the report.", ""]
    for unsure in report.unconfirmed:
        lines += [prose(unsure.told), ""]
    lines += ["| clause | level | status | runs |", "|---|---|---|---:|"]
    lines += [f"| {prose(e.id)} | {e.level} | {e.status} | {e.checked:,} |" for e in report.clauses]
    lines += ["", *(line for note in report.notes for line in (prose(note), ""))]
    text = "\n".join(lines).encode()
    if len(text) > SUMMARY_LIMIT:
        return f"{lines[0]}\n\nThe report is too long for this page.\n\n".encode()
    return text
