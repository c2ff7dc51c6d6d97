"""Runs single cases on subjects, for tests of one's own: each run in a fresh process, observed and judged."""

from __future__ import annotations

from contextlib import ExitStack

from msgspec import Struct

from vfio_verify.judge import Verdict
from vfio_verify.subject.subject import open_subject
from vfio_verify.testing.events import say_verdict
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Case, Policy, check
from vfio_verify.values.observation import Observation
from vfio_verify.values.spec import clauses


class Run(Struct, frozen=True):
    """A case that was run: what was seen, and how it was judged."""

    case: Case
    observation: Observation
    verdict: Verdict

    @property
    def mapped(self) -> bool:
        """Whether the subject returned a mapping."""
        return self.observation.mapped

    @property
    def exercised(self) -> frozenset[str]:
        """The clauses that this run exercised."""
        return self.verdict.checked

    @property
    def violated(self) -> tuple[str, ...]:
        """The clauses that it violates, in the order of the spec, without advice."""
        found = {clause for violation in self.verdict.violations for clause in violation.clauses}
        return tuple(name for name, clause in clauses().items() if name in found and clause.fails_a_check)

    def __repr__(self) -> str:
        # An observation holds thousands of bytes, and this is what a failed assertion shows.
        how = "mapped" if self.mapped else "died" if self.observation.death else "refused"
        return f"<{how}, {'violates ' + ', '.join(self.violated) if self.violated else 'violates nothing'}>"


class Harness(ExitStack):
    """Subjects made ready once, each with a process to run in. A context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._opened: dict[tuple[str, str | None], Runner] = {}

    def run(self, case: Case, name: str, function: str | None = None, policy: Policy = "same-block") -> Run:
        """Run one case, its faults included, in a process where nothing ran before. Raises InputError."""
        check(case)
        runner = self._open(name, function)._replace(policy=policy)
        if runner.worker.history:
            runner.worker.renew()
        adapted = runner.subject.adapt(case)
        seen, verdict = runner.run_and_judge(adapted)
        say_verdict(verdict)
        return Run(adapted, seen, verdict)

    def _open(self, name: str, function: str | None) -> Runner:
        if (name, function) not in self._opened:
            subject = self.enter_context(open_subject(name, function))
            self._opened[name, function] = self.enter_context(open_runner(subject))
        return self._opened[name, function]
