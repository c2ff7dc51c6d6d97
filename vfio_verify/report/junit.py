"""The report as JUnit XML, which every CI system shows: a suite for the subject, a test case for each clause."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from vfio_verify.report.report import ClauseEntry, Report
from vfio_verify.report.text import behind_text, violation_text
from vfio_verify.report.violations import ViolationEntry
from vfio_verify.values.markup import visible
from vfio_verify.values.spec import clauses


def to_junit(report: Report, seconds: float | None = None) -> bytes:
    """One document. `seconds` is what the check took; a report does not know.

    A violated clause is a failure with all of its violations, one that no run exercised is skipped, and advice never
    fails. A clause that was seen violated, but not again, is an error. So is a check that was interrupted or left a
    part out: it did not look at everything that its clauses cover. What lies behind the first fault is no test case: it
    stands in the suite's output.
    """
    found: dict[str, list[tuple[int, ViolationEntry]]] = {}
    for number, violation in enumerate(report.violations, 1):
        for clause in violation.clauses:
            found.setdefault(clause, []).append((number, violation))
    cases = [_test_case(entry, found.get(entry.id, []), report) for entry in report.clauses]
    if not report.is_whole:
        whole = Element("testcase", {"name": "the whole check", "classname": f"vfio-verify.{report.subject.function}"})
        kind, message = next(iter(report.shortcomings.items()))
        SubElement(whole, "error", {"type": kind, "message": message})
        cases.append(whole)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
    }
    if seconds is not None:
        counts["time"] = f"{seconds:.3f}"
    root = Element("testsuites", {"name": "vfio-verify", **counts})
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    suite = SubElement(root, "testsuite", {"name": visible(_title(report)), **counts, "skipped": skipped})
    properties = SubElement(suite, "properties")
    for name, value in _properties(report):
        SubElement(properties, "property", {"name": name, "value": visible(value)})
    suite.extend(cases)
    said = [*(entry.told for entry in report.unconfirmed), *report.notes]
    if report.proof:
        said += [*(one.told for one in report.proof.disagreements), report.proof.meaning, report.proof.bounds]
    if report.behind:
        said += [behind_text(report, report.behind)]
    if said:
        SubElement(suite, "system-out").text = visible("\n".join(said))
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _title(report: Report) -> str:
    subject = report.subject
    return "vfio-verify core" if subject.kind == "core" else f"vfio-verify {subject.name} {subject.function}()"


def _properties(report: Report) -> list[tuple[str, str]]:
    subject = report.subject
    rows = (
        ("version", report.version),
        ("verdict", report.verdict),
        ("seed", str(report.seed)),
        ("policy", report.policy),
        ("layouts", str(report.examples)),
        ("runs", str(report.runs)),
        ("subject", subject.name),
        ("function", subject.function),
        ("signature", subject.signature),
        ("place", subject.place),
        ("title", subject.title),
        ("assume", " ".join(subject.assume) or None),
    )
    return [(name, value) for name, value in rows if value is not None]


def _test_case(entry: ClauseEntry, found: list[tuple[int, ViolationEntry]], report: Report) -> Element:
    # No time: the runs of a check are not one clause's or another's.
    element = Element("testcase", {"name": entry.id, "classname": f"vfio-verify.{report.subject.function}"})
    if entry.status == "not decided":
        SubElement(element, "skipped", {"message": visible(entry.told)})
    if entry.status == "not exercised":
        SubElement(element, "skipped", {"message": f"not exercised: {report.why_not_exercised(entry.id)}"})
    if not found:
        if entry.status == "unconfirmed" and clauses()[entry.id].fails_a_check:
            told = [one.told for one in report.unconfirmed if one.clause == entry.id]
            SubElement(element, "error", {"type": "unconfirmed", "message": visible("; ".join(told))})
        return element
    blocks = visible("\n".join(violation_text(number, violation, report) for number, violation in found).rstrip("\n"))
    if not clauses()[entry.id].fails_a_check:
        SubElement(element, "system-out").text = blocks
        return element
    summary = _placed(found[0][1]) + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    SubElement(element, "failure", {"type": entry.level, "message": visible(summary)}).text = blocks
    return element


def _placed(violation: ViolationEntry) -> str:
    """A violation's sentence, after its line as compilers write it."""
    where = violation.where
    return violation.summary if where is None else f"{where.file}:{where.line}: {violation.summary}"
