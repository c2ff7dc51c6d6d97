"""What comes of a search."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct, field
from msgspec.structs import replace

from vfio_verify.campaign.check import Result
from vfio_verify.campaign.options import Options
from vfio_verify.generate.kernel_faults import account
from vfio_verify.report.report import ClauseEntry, Report, make_report
from vfio_verify.search.budget import Reason
from vfio_verify.search.recorder import Recorder
from vfio_verify.search.state import Finding, State
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import KernelFaultKind
from vfio_verify.values.cause import Key
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import clauses


class Outcome(Struct, frozen=True, tag_field="schema", tag="vfio-verify/fuzz@1"):
    """How a search ended. `report` and `state` are of all searches that add up to this one."""

    report: Report
    state: State
    reason: Reason
    seconds: float
    new_layouts: int
    new_runs: int
    new_findings: tuple[Finding, ...]
    undecided: tuple[Key, ...] = field(name="unsettled")
    """Candidates seen at the very end. Their shards are not counted, and will be run again."""

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def make_outcome(
    subject: Subject,
    options: Options,
    recorder: Recorder,
    no_kernel_faults: dict[KernelFaultKind, str],
    seconds: float,
) -> Outcome:
    """What a search has recorded in so many seconds. Kinds of kernel faults that it did not try have a reason."""
    state, interrupted = recorder.state, recorder.ending.reason == "interrupted"
    result = Result(
        tally=state,
        interrupted=interrupted,
        unconfined=tuple(recorder.unconfined),
        kernel_faults=account(state.kernel_runs, no_kernel_faults | state.not_permitted, interrupted=interrupted),
    )
    undecided = sorted(recorder.undecided)
    return Outcome(
        report=with_findings(make_report(subject, options, result), state, undecided),
        state=state,
        reason=recorder.ending.reason or "layouts",
        seconds=seconds,
        new_layouts=recorder.new_layouts,
        new_runs=recorder.new_runs,
        new_findings=tuple(recorder.new_findings),
        undecided=tuple(undecided),
    )


def with_findings(report: Report, state: State, undecided: Collection[Key]) -> Report:
    """A report of all searches so far. Findings are in it as they were told: an earlier search may have made them. A
    search that ends by its own budget is whole."""
    order = list(clauses())
    found = sorted((finding.violation for finding in state.findings), key=lambda entry: order.index(entry.clause))
    unconfirmed = [one for one in state.unconfirmed if (one.clause, one.cause) not in state.confirmed]
    violated = {entry.clause for entry in found}
    doubted = {one.clause for one in unconfirmed} | {clause for clause, _ in undecided}
    verdict = report.verdict
    if any(clauses()[name].fails_a_check for name in violated):
        verdict = "violates"
    elif any(clauses()[name].fails_a_check for name in doubted) or (state.lost and verdict is not None):
        verdict = "unconfirmed"
    notes = [
        *report.notes,
        *(f"Seen at the very end, and neither confirmed nor counted: {clause}: {cause}" for clause, cause in undecided),
        *([f"Left out, since their process ended unexpectedly: shards {state.lost}."] if state.lost else []),
        *(
            f"Seen {one.times} times, and not again in a fresh process: {one.clause}: {one.cause}"
            for one in unconfirmed
        ),
    ]
    return replace(
        report,
        verdict=verdict,
        clauses=tuple(_entry(entry, violated, doubted) for entry in report.clauses),
        violations=tuple(found),
        notes=tuple(notes),
    )


def _entry(entry: ClauseEntry, violated: set[str], doubted: set[str]) -> ClauseEntry:
    if entry.id in violated:
        return replace(entry, status="violated")
    return replace(entry, status="unconfirmed") if entry.id in doubted else entry
