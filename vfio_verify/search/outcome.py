"""When a search ends, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.judge.attribution import Key
from vfio_verify.report.report import ClauseEntry, Report
from vfio_verify.search.state import Finding, State
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import clauses

Reason = Literal["time", "layouts", "found", "interrupted"]


class Budget(Struct, frozen=True):
    """When a search ends; without anything, when it is interrupted."""

    seconds: float | None = None
    layouts: int | None = None
    """At least so many, in whole shards."""
    until_found: bool = False
    """End when a violation is confirmed; what else was met by then is settled too."""
    fail_fast: bool = False
    """End when one is confirmed, and do nothing else once one was met."""


class Outcome(Struct, frozen=True, tag_field="schema", tag="vfio-verify/fuzz@1"):
    """How a search ended. `report` and `state` are of all searches that add up to this one."""

    report: Report
    state: State
    reason: Reason
    seconds: float
    new_layouts: int
    new_runs: int
    new_findings: tuple[Finding, ...]
    unsettled: tuple[Key, ...]
    """Met at the very end. Their shards are not counted, and will be run again."""

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def with_findings(report: Report, state: State, unsettled: Iterable[Key]) -> Report:
    """A report of all searches so far. Findings are there as they were told: an earlier search may have made them. A
    search that ends by its own budget is whole."""
    unsettled = list(unsettled)
    order = list(clauses())
    found = sorted((finding.violation for finding in state.findings), key=lambda entry: order.index(entry.clause))
    violated = {entry.clause for entry in found}
    doubted = {clause for clause, cause, _ in state.unconfirmed if (clause, cause) not in state.settled}
    doubted |= {clause for clause, _ in unsettled}
    entries = [_entry(entry, violated, doubted) for entry in report.clauses]
    verdict = report.verdict
    if any(clauses()[name].fails_a_check for name in violated):
        verdict = "violates"
    elif any(clauses()[name].fails_a_check for name in doubted) or (state.lost and verdict is not None):
        verdict = "unconfirmed"
    notes = [
        *report.notes,
        *(f"Met at the very end, and neither confirmed nor counted: {clause}: {cause}" for clause, cause in unsettled),
        *([f"Left out, since their process ended unexpectedly: shards {state.lost}."] if state.lost else []),
        *(
            f"Seen {times} times, and not again in a fresh process: {clause}: {cause}"
            for clause, cause, times in state.unconfirmed
            if (clause, cause) not in state.settled
        ),
    ]
    return replace(
        report,
        verdict=verdict,
        clauses=tuple(entries),
        violations=tuple(found),
        notes=tuple(notes),
    )


def _entry(entry: ClauseEntry, violated: set[str], doubted: set[str]) -> ClauseEntry:
    if entry.id in violated:
        return replace(entry, status="violated")
    return replace(entry, status="unconfirmed") if entry.id in doubted else entry
