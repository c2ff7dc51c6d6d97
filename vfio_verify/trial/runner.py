"""Runs a case on a subject and judges it, whether it is a single call, concurrent calls or a sequence."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.attribution import in_step, key, only_after_earlier
from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.judge.sequence import judge_sequence, step_text, touches_pages
from vfio_verify.subject.subject import Subject
from vfio_verify.values.case import Case, Policy
from vfio_verify.values.model import Expectation, expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Worker


class Runner(NamedTuple):
    """Runs cases on a subject's worker and judges them by a policy."""

    worker: Worker
    subject: Subject
    policy: Policy

    def run_and_judge(self, case: Case) -> tuple[Observation, Verdict]:
        """Run one case with its fault plan, earlier calls and concurrent calls. Each violation is told under the clause
        that it belongs to: what the last call also shows alone does not depend on the earlier ones."""
        seen, verdict = self.run_once(case)
        if not case.earlier or not verdict.violations:
            return seen, verdict
        self.worker.renew()
        _, alone = self.run_once(replace(case, earlier=()))
        return seen, Verdict(verdict.checked, only_after_earlier(verdict.violations, alone.violations))

    def run_once(self, case: Case) -> tuple[Observation, Verdict]:
        """Run and judge one case. Each violation is told under the clause that the last call violates, whether or not
        it needs the earlier calls."""
        (seen,) = self.worker.run(case)
        if case.sequence:
            return seen, self.judge_steps(case, seen)
        if case.concurrent:
            return seen, self.judge_concurrent(case, seen)
        return seen, self.judge(case, expect(case, self.policy), seen)

    def judge(self, case: Case, expected: Expectation, seen: Observation) -> Verdict:
        """Judge a single call."""
        return judge(case, expected, seen, has_errp=self.subject.has_errp)

    def judge_concurrent(self, case: Case, seen: Observation) -> Verdict:
        """Judge concurrent calls."""
        return judge_concurrent(case, self.policy, seen, has_errp=self.subject.has_errp)

    def judge_steps(self, case: Case, seen: Observation) -> Verdict:
        """Judge a sequence. A later call that is to blame is made again alone, in a fresh process: what it does wrong
        there too has nothing to do with the sequence, and what it does wrong only here violates REPEATABLE."""
        verdict = judge_sequence(case, self.policy, seen, has_errp=self.subject.has_errp)
        violations: list[Violation] = []
        for step, group in itertools.groupby(verdict.blamed, lambda one: one.step):
            blamed = list(group)
            call = blamed[0].call
            if not step or call is None:
                needed = call or replace(case, sequence=case.sequence[:step])
                violations += [replace(b.violation, case=case if b.damage else needed) for b in blamed]
                continue
            self.worker.renew()
            _, by_itself = self.run_once(call)
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


@contextmanager
def open_runner(
    subject: Subject,
    policy: Policy = "same-block",
    *,
    parts: SandboxFeature = SandboxFeature.ALL,
    parse_maps: bool = False,
) -> Iterator[Runner]:
    """A runner with a worker of its own, which ends with the context."""
    with Worker(subject.library, parse_maps=parse_maps, parts=parts) as worker:
        yield Runner(worker, subject, policy)
