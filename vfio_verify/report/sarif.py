"""The report as SARIF 2.1.0, which code scanning shows beside the source: clauses are rules, violations results."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from typing import Any
from urllib.parse import quote

import msgspec

from vfio_verify.report.case_text import reproduce_line
from vfio_verify.report.location import Location, Locations
from vfio_verify.report.report import Report
from vfio_verify.report.text import behind_lines, violation_text
from vfio_verify.report.violations import ViolationEntry
from vfio_verify.values.conventions import supposed
from vfio_verify.values.markup import fenced, prose, visible
from vfio_verify.values.spec import Clause, Severity, clauses

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_BASE = "SRCROOT"
_SECURITY: dict[Severity, str] = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "note": "0.0"}
"""What GitHub calls critical from 9.0 on, high from 7.0, medium from 4.0."""


def to_sarif(report: Report, places: Locations) -> bytes:
    """One log with one run."""
    run: dict[str, Any] = {
        "tool": {"driver": _driver(report)},
        "invocations": [_invocation(report, places)],
        "columnKind": "utf16CodeUnits",
        "properties": _properties(report),
        "results": _results(report, places),
    }
    if any(place is not None and place.below_root for place in (places.subject, *places.violations, *places.further)):
        run["originalUriBaseIds"] = {_BASE: {"uri": _file_uri(str(places.root)) + "/"}}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=1) + b"\n"


def _driver(report: Report) -> dict[str, Any]:
    return {
        "name": "vfio-verify",
        "fullName": f"vfio-verify {report.version}",
        "version": report.version,
        "shortDescription": {"text": "Finds faults in helpers that map VFIO-backed guest memory for a dmabuf."},
        "rules": [_rule(clause) for clause in clauses().values()],
    }


def _rule(clause: Clause) -> dict[str, Any]:
    about = f"Source: {clause.source}\n\nEvidence: {clause.evidence}"
    marked = f"**{prose(clause.rule)}**\n\n*Source:* {prose(clause.source)}\n\n*Evidence:* {prose(clause.evidence)}"
    return {
        "id": clause.id,
        "name": clause.id.title().replace("_", ""),
        "shortDescription": {"text": re.split(r"(?<=[a-z0-9)])[.:] ", clause.rule)[0].rstrip(".") + "."},
        "fullDescription": {"text": clause.rule},
        "help": {"text": f"{clause.rule}\n\n{about}", "markdown": marked},
        "defaultConfiguration": {"level": _level(clause)},
        "properties": {
            "level": clause.level,
            "tags": ["vfio", clause.level, *(["security"] if clause.severity in ("critical", "high") else [])],
            "precision": "very-high",
            "security-severity": _SECURITY[clause.severity],
        },
    }


def _level(clause: Clause) -> str:
    return "error" if clause.fails_a_check else "note"


def _level_of(violation: ViolationEntry) -> str:
    """The level of a result: what nobody would stop a release for is a warning."""
    if violation.is_advice:
        return "note"
    return "warning" if violation.severity in ("low", "note") else "error"


def _invocation(report: Report, places: Locations) -> dict[str, Any]:
    """What was done, and what is told besides results: what is unconfirmed, or lies behind the first fault."""
    said = [
        ("error" if kind == "no verdict" else "warning", f"{text[0].upper()}{text[1:]}.")
        for kind, text in report.shortcomings.items()
    ]
    said += [("warning", visible(entry.told)) for entry in report.unconfirmed]
    if report.proof:
        said += [("error", visible(one.told)) for one in report.proof.disagreements]
        said += [("note", report.proof.meaning), ("note", report.proof.bounds)]
    said += [("note", visible(note)) for note in report.notes]
    notifications: list[dict[str, Any]] = [{"level": level, "message": {"text": text}} for level, text in said]
    if report.behind:
        heading, *_ = behind_lines(report, report.behind)
        notifications += [{"level": "note", "message": {"text": heading}}]
        for violation, place in zip(report.further, places.further, strict=True):
            where = {"locations": [_location(_function_of(violation, report), place)]}
            text = f"{supposed(report.behind.subject.assume)}: {violation.clause}: {violation.summary}"
            notifications += [{"level": "note", "message": {"text": visible(text)}, **where}]
    return {
        "executionSuccessful": report.is_whole,
        "exitCode": report.exit_status,
        "toolExecutionNotifications": notifications,
    }


def _properties(report: Report) -> dict[str, Any]:
    return {
        "subject": {
            name: visible(value) if isinstance(value, str) else value and [visible(one) for one in value]
            for name, value in msgspec.to_builtins(report.subject).items()
        },
        "verdict": report.verdict,
        "seed": report.seed,
        "policy": report.policy,
        "layouts": report.examples,
        "runs": report.runs,
        "clauses": msgspec.to_builtins(report.clauses),
    }


def _results(report: Report, places: Locations) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    results = []
    for number, (violation, place) in enumerate(zip(report.violations, places.violations, strict=True), 1):
        fingerprint = _fingerprint(report, violation)
        seen[fingerprint] += 1
        fingerprint = f"{fingerprint}:{seen[fingerprint]}"
        identity = {
            "locations": [_location(_function_of(violation, report), place)],
            **_related(report, violation, places.subject),
            # The first is the one that GitHub compares. Left out, it would be made of the source line, which is the
            # same for all violations.
            "partialFingerprints": {"primaryLocationLineHash": fingerprint, "vfioVerify/v1": fingerprint},
        }
        results.append(_result(number, violation, report, identity))
    return results


def _result(number: int, violation: ViolationEntry, report: Report, identity: dict[str, Any]) -> dict[str, Any]:
    """A result, of which `identity` has the places and the fingerprints."""
    block, evidence = violation_text(number, violation, report), violation.evidence
    text = f"{violation.summary}. Expected: {evidence.expected}. Seen: {evidence.seen}.\n\n{block}"
    return {
        "ruleId": violation.clause,
        "ruleIndex": list(clauses()).index(violation.clause),
        "level": _level_of(violation),
        "message": {
            "text": visible(text),
            "markdown": f"**{prose(violation.clause)}**: {prose(violation.summary)}\n\n{fenced(block)}\n",
        },
        **identity,
        "properties": {
            "case": msgspec.to_builtins(violation.case),
            "reproduce": visible(reproduce_line(violation.case, report)),
            "expected": visible(evidence.expected),
            "seen": visible(evidence.seen),
            "severity": violation.severity,
            "security-severity": _SECURITY[violation.severity],
            "cause": visible(violation.cause),
            "consequences": [f"{one.clause}: {visible(one.summary)}" for one in violation.consequences],
            "runs": violation.runs,
            "error": None if evidence.error is None else visible(evidence.error),
            "calls": [visible(call) for call in evidence.calls],
            "lines": [line and f"{visible(line.file)}:{line.line}" for line in evidence.lines],
        },
    }


def _fingerprint(report: Report, violation: ViolationEntry) -> str:
    """A digest of the function, the clause and the cause, so that the same fault has the same one in every run."""
    line = violation.where
    # A line is taken by its text: any change above it moves its number.
    cause = re.sub(r"([^/\s]+):\d+$", lambda m: m[1] if line is None else f"{m[1]} {line.text}", violation.cause)
    parts = (report.subject.function, violation.clause, cause)
    return hashlib.sha256(visible("\n".join(parts)).encode()).hexdigest()[:32]


def _function_of(violation: ViolationEntry, report: Report) -> str:
    return (violation.where and violation.where.function) or report.subject.function


def _related(report: Report, violation: ViolationEntry, location: Location | None) -> dict[str, Any]:
    """The function's definition, if the violation has a line of its own."""
    if violation.where is None or location is None:
        return {}
    head = {**_location(report.subject.function, location), "message": {"text": "The function that was checked."}}
    return {"relatedLocations": [head]}


def _location(function: str, location: Location | None) -> dict[str, Any]:
    function = visible(function)
    found: dict[str, Any] = {"logicalLocations": [{"name": function, "kind": "function"}]}
    if location is None:
        return found
    if location.below_root:
        artifact = {"uri": quote(os.fsencode(location.path)), "uriBaseId": _BASE}
    else:
        artifact = {"uri": _file_uri(location.path)}
    place: dict[str, Any] = {"artifactLocation": artifact}
    if location.line is not None:
        place["region"] = {"startLine": location.line}
    return {"physicalLocation": place, **found}


def _file_uri(path: str) -> str:
    return "file://" + quote(os.fsencode(path).rstrip(b"/"))
