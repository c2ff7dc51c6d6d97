"""When a search ends, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.fuzz_state import Finding, State
from vfio_verify.judge.attribution import Key
from vfio_verify.markup import json_report
from vfio_verify.report import Report
from vfio_verify.spec import clauses

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
    """A report of all searches so far. Findings are there as they were told: an earlier search may have made them."""
    order = list(clauses())
    found = sorted((finding.violation for finding in state.findings), key=lambda entry: order.index(entry.clause))
    violated = {entry.clause for entry in found}
    entries = [replace(entry, status="violated") if entry.id in violated else entry for entry in report.clauses]
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
        verdict="violates" if any(clauses()[name].fails_a_check for name in violated) else "conforms",
        clauses=tuple(entries),
        violations=tuple(found),
        notes=tuple(notes),
    )
