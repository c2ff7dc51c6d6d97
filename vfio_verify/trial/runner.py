"""One case run on a subject, and judged: whatever it holds, a single call, concurrent calls or a sequence."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.attribution import in_step, key, only_after_earlier
from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.judge.sequence import judge_sequence, step_text, touches_pages
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import Case, Policy
from vfio_verify.values.model import expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker.worker import Worker


def run_and_judge(worker: Worker, subject: Subject, policy: Policy, case: Case) -> tuple[Observation, Verdict]:
    """Run one case, its fault plan, earlier calls and concurrent ones included. Each violation is told under the clause
    that it belongs to: what the last call shows alone, too, is no matter of the earlier ones."""
    seen, verdict = run_once(worker, subject, policy, case)
    if not case.earlier or not verdict.violations:
        return seen, verdict
    worker.renew()
    _, alone = run_once(worker, subject, policy, replace(case, earlier=()))
    return seen, Verdict(verdict.checked, only_after_earlier(verdict.violations, alone.violations))


def run_once(worker: Worker, subject: Subject, policy: Policy, case: Case) -> tuple[Observation, Verdict]:
    """The same, with every violation under the clause that its last call violates, whether that needs the earlier ones
    or not."""
    (seen,) = worker.run(case)
    if case.sequence:
        return seen, judge_steps(worker, subject, policy, case, seen)
    if case.concurrent:
        return seen, judge_concurrent(case, policy, seen, has_errp=subject.has_errp)
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
        _, by_itself = run_once(worker, subject, policy, call)
        violations += by_itself.violations
        shown = set(map(key, by_itself.violations))
        left = [b for b in blamed if b.damage and not touches_pages(by_itself.violations)]
        left += [b for b in blamed if not b.damage and key(b.violation) not in shown]
        if left:  # the first, of which the others are consequences
            needed = replace(case, sequence=case.sequence[:step])
            found = replace(left[0].violation, case=needed)
            violations.append(in_step(found, f"step {step} ({step_text(case, step)})"))
            break
    return Verdict(verdict.checked, tuple(violations))
