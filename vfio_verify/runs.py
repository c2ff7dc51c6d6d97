"""One case run on a subject, and judged: whatever it holds, a single call, calls at once or a sequence."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from vfio_verify.case import Case, Policy
from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.sequence import judge_sequence, step_text, touches_pages
from vfio_verify.judge.threads import judge_at_once
from vfio_verify.model import expect
from vfio_verify.observation import Observation
from vfio_verify.subject import Subject
from vfio_verify.worker import Worker


def dependent(violation: Violation) -> Violation:
    """A violation that needs earlier calls is one of REPEATABLE, unless it ends the process."""
    if not violation.case.earlier or violation.clause == "SURVIVES":
        return violation
    n = len(violation.case.earlier)
    summary = f"after {n} earlier call{'s' * (n != 1)}: {violation.summary} ({violation.clause})"
    if violation.clause == "REPEATABLE":
        return replace(violation, summary=summary)
    return replace(violation, clause="REPEATABLE", cause=_cause(violation), summary=summary)


def _cause(violation: Violation) -> str:
    """Of REPEATABLE, where a call violates another clause only after others."""
    return f"{violation.clause}: {violation.cause}"


def run_and_judge(worker: Worker, subject: Subject, policy: Policy, case: Case) -> tuple[Observation, Verdict]:
    """Run one case, its fault plan, earlier calls and those alongside included."""
    (seen,) = worker.run(case)
    if case.sequence:
        return seen, judge_steps(worker, subject, policy, case, seen)
    if case.alongside:
        return seen, judge_at_once(case, policy, seen, has_errp=subject.has_errp)
    return seen, judge(case, expect(case, policy), seen, has_errp=subject.has_errp)


def judge_steps(worker: Worker, subject: Subject, policy: Policy, case: Case, seen: Observation) -> Verdict:
    """Judge a sequence that was run. A later call that is to blame is made again alone, in a fresh process: what it
    does wrong there too is no matter of the sequence, and what it does wrong only here is REPEATABLE's."""
    verdict = judge_sequence(case, policy, seen, has_errp=subject.has_errp)
    violations: list[Violation] = []
    for step, group in itertools.groupby(verdict.blamed, lambda one: one.step):
        blamed = list(group)
        call = blamed[0].call
        if not step or call is None:
            needed = call or replace(case, sequence=case.sequence[:step])
            violations += [replace(b.violation, case=case if b.damage else needed) for b in blamed]
            continue
        worker.renew()
        _, by_itself = run_and_judge(worker, subject, policy, call)
        violations += by_itself.violations
        shown = {(v.clause, v.cause) for v in by_itself.violations}
        left = [b for b in blamed if b.damage and not touches_pages(by_itself.violations)]
        left += [b for b in blamed if not b.damage and (b.violation.clause, b.violation.cause) not in shown]
        if left:  # the first, of which the others are consequences
            needed = replace(case, sequence=case.sequence[:step])
            found = replace(left[0].violation, case=needed)
            violations.append(_of_sequence(found, f"step {step} ({step_text(case, step)})"))
            break
    return Verdict(verdict.checked, tuple(violations))


def _of_sequence(violation: Violation, step: str) -> Violation:
    """A call's violation that it does not show alone is one of REPEATABLE, unless it ends the process."""
    if violation.clause == "REPEATABLE":
        return violation
    summary = f"in {step}, and not in the same call alone: {violation.summary}"
    if violation.clause == "SURVIVES":
        return replace(violation, summary=summary)
    summary += f" ({violation.clause})"
    return replace(violation, clause="REPEATABLE", cause=_cause(violation), summary=summary)
