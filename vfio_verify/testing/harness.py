"""Runs single cases on subjects, for tests of one's own: each run in a fresh process, observed and judged."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType

from msgspec import Struct

from vfio_verify.judge import Verdict
from vfio_verify.subject.subject import open_subject
from vfio_verify.testing.events import say_verdict
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Case, Policy, check
from vfio_verify.values.observation import Observation
from vfio_verify.values.spec import clauses
from vfio_verify.worker.sandbox import SandboxFeature


class Run(Struct, frozen=True):
    """What became of a case: what was seen, and how that was judged."""

    case: Case
    observation: Observation
    verdict: Verdict

    @property
    def mapped(self) -> bool:
        """Did the subject return a mapping?"""
        return self.observation.mapped

    @property
    def exercised(self) -> frozenset[str]:
        """The clauses that this run says something of."""
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


class Harness:
    """Subjects made ready once, each with a process to run in. A context manager."""

    def __init__(self, *, sandbox: bool = True) -> None:
        self._parts = SandboxFeature.ALL if sandbox else SandboxFeature.NONE
        self._opened: dict[tuple[str, str | None], Runner] = {}
        self._resources = ExitStack()

    def __enter__(self) -> Harness:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.clear()
        self._resources.close()

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
            subject = self._resources.enter_context(open_subject(name, function, self._parts))
            runner = self._resources.enter_context(open_runner(subject, parts=self._parts))
            self._opened[name, function] = runner
        return self._opened[name, function]
