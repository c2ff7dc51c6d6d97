"""Makes a case from elsewhere smaller, on a subject that violates its clause."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.campaign.replay import not_applicable, violations_of
from vfio_verify.corpus.entry import Entry, found
from vfio_verify.errors import InputError
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import after_earlier, key
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.confirm import confirm_and_minimize
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Policy
from vfio_verify.values.cost import cost
from vfio_verify.values.spec import clauses
from vfio_verify.worker.sandbox import SandboxFeature


class Reduced(Struct, frozen=True):
    """The smallest case found, as an entry; None where the subject does not violate the clause."""

    entry: Entry | None
    smaller: bool = False
    tries: int = 0
    clause: str | None = None
    """The clause that was kept, or looked for."""
    instead: tuple[str, ...] = ()
    """Clauses that the case violates where it does not violate the one looked for."""


def reduced(
    subject: Subject,
    entry: Entry,
    clause: str | None = None,
    *,
    policy: Policy | None = None,
    parts: SandboxFeature = SandboxFeature.ALL,
) -> Reduced:
    """The smallest case that still violates `clause`, which defaults to the entry's, or else to the first one that
    fails a check. The policy defaults to the one that the case was found by.

    Raises InputError for a case that has nothing to ask of the subject.
    """
    clause = clause or entry.clause
    policy = policy or entry.policy
    reason = not_applicable(entry, subject)
    if reason is not None:
        raise InputError(f"the case cannot be run on {subject.name}: {reason}")
    with open_runner(subject, policy, parts=parts) as runner:
        violations = violations_of(runner, entry.case)
        wanted = _wanted(violations, clause, None if entry.origin is None else entry.origin.cause)
        if wanted is None:
            return Reduced(None, clause=clause, instead=tuple(dict.fromkeys(v.clause for v in violations)))
        runner.worker.renew()
        confirmation = confirm_and_minimize(runner, [Candidate(_as_run(runner, wanted), ())])
    if confirmation.violation is None:
        return Reduced(None, tries=confirmation.tries, clause=wanted.clause)
    smallest = confirmation.violation
    if smallest.clause != wanted.clause or cost(smallest.case) >= cost(entry.case):
        smallest = replace(wanted, case=entry.case)
    seed = None if entry.origin is None else entry.origin.seed
    made = replace(
        found(subject.name, smallest.clause, smallest.cause, smallest.case, seed=seed, policy=policy), note=entry.note
    )
    return Reduced(made, smallest.case != entry.case, confirmation.tries, smallest.clause)


def _wanted(violations: tuple[Violation, ...], clause: str | None, cause: str | None) -> Violation | None:
    """The violation of the clause, by the known cause if that is among them."""
    if clause is None:
        failing = [v for v in violations if clauses()[v.clause].fails_a_check]
        return next(iter([*failing, *violations]), None)
    of_clause = [violation for violation in violations if violation.clause == clause]
    of_clause += [v for v in violations if v.clause != clause and clause in v.clauses]  # as a consequence
    return next(iter([*(v for v in of_clause if v.cause == cause), *of_clause]), None)


def _as_run(runner: Runner, wanted: Violation) -> Violation:
    """The violation under the clause that its last call alone is judged by, which candidates are held against."""
    if not wanted.case.earlier:
        return wanted
    _, verdict = runner.run_once(wanted.case)
    same = [one for one in verdict.violations if key(after_earlier(one)) == key(wanted)]
    return next(iter(same), wanted)
