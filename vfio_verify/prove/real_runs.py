"""What refutes a clause in the model is run for real before anything is told of the subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.errors import InputError, UnrealError
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import Case, check
from vfio_verify.values.cause import Key


class Disagreement(Struct, frozen=True):
    """A case for which the model in C and a real run do not say the same: one of the two is wrong."""

    clause: str
    model: str
    run: str
    case: Case

    @property
    def told(self) -> str:
        """Both sides in a sentence."""
        return (
            f"The model and a real run disagree: by the model the case violates {self.model}; the run shows "
            f"{self.run}. One of the two is wrong, which says nothing of the subject: please report this."
        )


class RealRuns:
    """The real runs of a subject, and what they have shown."""

    def __init__(self, subject: Subject, runner: Runner, on_found: Callable[[Violation], None]) -> None:
        self.subject = subject
        self._runner, self._on_found = runner, on_found
        self.shown: dict[Key, Violation] = {}
        self.clauses: set[str] = set()
        """Those that were seen violated."""
        self.runs = 0
        self._heard: set[str] = set()

    def run(self, case: Case) -> tuple[set[str], str]:
        """Run a case: the clauses that it shows violated, and what it says. What variables hold until they are set is
        anything in the model; here it is a pattern or, if that shows nothing, zero."""
        shown, seen = self._run(case)
        if not shown and self.subject.is_built_twice:
            shown, seen_with_zero = self._run(replace(case, variables="zero"))
            seen = seen_with_zero if shown else seen
        return shown, seen

    def _run(self, case: Case) -> tuple[set[str], str]:
        shown: set[str] = set()
        try:
            check(case)
            _, verdict = self._runner.run_and_judge(case)
            self.runs += 1
            for violation in verdict.violations:
                shown |= set(violation.clauses)
                self.shown.setdefault(key(violation), violation)
                if violation.clause not in self._heard:
                    self._heard.add(violation.clause)
                    self._on_found(violation)
            seen = "; ".join(f"{one.clause}: {one.summary}" for one in verdict.violations) or "no violation"
        except (InputError, UnrealError) as error:
            seen = str(error)
        self.clauses |= shown
        return shown, seen


def confirmed(runner: Runner, shown: Iterable[Violation]) -> tuple[list[Violation], list[Violation]]:
    """Confirm what runs have shown, and make the cases small; and what did not come again."""
    from vfio_verify.trial.confirm import confirm_and_minimize  # a subject that is proved needs none of it

    found, unconfirmed = [], []
    for violation in shown:
        again = confirm_and_minimize(runner, [Candidate(violation, ())]).violation
        if again is None:
            unconfirmed.append(violation)
        else:
            found.append(again)
    return found, unconfirmed
