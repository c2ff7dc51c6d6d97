"""Replay: kept cases run again on a subject.

Cases share a process, so that thousands are run in a second. What a case shows is run again in a fresh process before
it is believed; so is the absence of a failure, on a subject that may remember what it was called with. A case whose
violation is seen once and not again is unconfirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import asdict, replace

from vfio_verify import __version__
from vfio_verify.campaign.pool import Pool
from vfio_verify.corpus.entry import Entry, Kept
from vfio_verify.errors import NotPermittedError, UnrealError
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import after_earlier, key
from vfio_verify.subject.subject import CORE, Subject
from vfio_verify.trial.confirm import seen_concurrent
from vfio_verify.trial.going_on import goes_on
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Case, Policy, in_world, why_no_pages
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import clauses
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Past

Status = Literal["still failing", "newly failing", "unconfirmed", "fixed", "passes", "not applicable"]
STATUSES: tuple[Status, ...] = Status.__args__  # type: ignore[attr-defined]  # a Literal has them

_SMALLEST, _LARGEST, _PARTS = 50, 1000, 8
"""The fewest and the most cases of a batch, which starts a worker; and how many batches there are within that."""

_TRIES = 2
"""How many more fresh processes are given to what one has not shown again."""

_PLACES = 4
"""How many more processes must show nothing of a case of several calls before it is called fixed."""


class Found(Struct, frozen=True):
    """One way in which a case violates a clause."""

    clause: str
    cause: str
    summary: str


class Outcome(Struct, frozen=True):
    """How a case fared. `clause` is the one that it was found to violate; `found` is what it violates now."""

    status: Status
    clause: str | None
    found: tuple[Found, ...]
    reason: str
    """Why it is not applicable; or what was seen once and not again."""

    @property
    def fails(self) -> bool:
        """Whether the subject fails it. Violated advice is not a failure."""
        return any(clauses()[one.clause].fails_a_check for one in self.found)


class CaseEntry(Outcome, frozen=True, kw_only=True):
    """A replayed case in a report; `name` is that of its file, or its place in a server."""

    name: str


class ReplayReport(Struct, frozen=True, tag_field="schema", tag="vfio-verify/replay@1"):
    """The outcome of a replay. `cases` are those that were run before it ended or was interrupted."""

    subject: str
    policy: Policy | None
    """None if each case was judged by the policy under which it was found."""
    counts: dict[str, int]
    cases: tuple[CaseEntry, ...]
    fails: bool
    interrupted: bool
    version: str

    @property
    def exit_status(self) -> int:
        """What ``vfio-verify replay`` exits with, unless it is interrupted."""
        if self.fails:
            return 1
        return 4 if self.counts["unconfirmed"] else 0

    def to_json(self) -> bytes:
        """One object, indented, with the keys in a fixed order."""
        return json_report(self)


def replay_report(
    subject: Subject, policy: Policy | None, kept: Iterable[Kept], outcomes: Sequence[Outcome], *, interrupted: bool
) -> ReplayReport:
    """Put the outcomes of kept cases together. An interrupted replay has fewer outcomes than cases."""
    pairs = zip(kept, outcomes, strict=False)
    return ReplayReport(
        subject=subject.name,
        policy=policy,
        counts=counts(outcomes),
        cases=tuple(CaseEntry(**asdict(outcome), name=one.place) for one, outcome in pairs),
        fails=any(outcome.fails for outcome in outcomes),
        interrupted=interrupted,
        version=__version__,
    )


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many outcomes have each status."""
    by_status = Counter(outcome.status for outcome in outcomes)
    return {status: by_status[status] for status in STATUSES}


# ---- many cases --------------------------------------------------------------------------------------------


def replay(
    subject: Subject,
    entries: Sequence[Entry],
    *,
    policy: Policy | None = None,
    parts: SandboxFeature = SandboxFeature.ALL,
    jobs: int = 1,
) -> Generator[Outcome, None, None]:
    """Yield an outcome for each entry, in order, as soon as it and those before it are known. Without a policy each is
    judged by the one under which it was found. A case that assumes conventions is run without them on a subject that
    keeps to QEMU's.

    The outcomes are the same with any number of jobs: where batches begin follows from the number of entries alone.
    """
    size = min(max(-(-len(entries) // _PARTS), _SMALLEST), _LARGEST)
    batches = [entries[start : start + size] for start in range(0, len(entries), size)]
    with Pool(jobs, tasks=len(batches)) as pool:
        # As JSON: pickling so many small values takes ten times as long, and this process does it for all others.
        tasks = [(subject, policy, parts, batch if pool.is_here else msgspec.json.encode(batch)) for batch in batches]
        for outcomes in pool.map(replay_batch, tasks):
            yield from outcomes


def replay_batch(
    subject: Subject, policy: Policy | None, parts: SandboxFeature, entries: Sequence[Entry] | bytes
) -> list[Outcome]:
    """Run entries, or their JSON, on one worker. They share its process until one of them shows something."""
    if isinstance(entries, bytes):
        entries = msgspec.json.decode(entries, type=list[Entry])
    with open_runner(subject, parts=parts) as runner:
        batch = _Batch(runner, policy, parts)
        return [batch.outcome(entry) for entry in entries]


class _Batch:
    """Runs entries on one worker."""

    def __init__(self, runner: Runner, policy: Policy | None, parts: SandboxFeature) -> None:
        self._runner, self._worker, self._subject = runner, runner.worker, runner.subject
        self._policy, self._parts = policy, parts
        # The core keeps nothing from call to call. Another subject may: after other cases it does not prove that a
        # case is fixed.
        self._may_remember = self._subject.library is not None
        self._ran = 0
        self._goes_on: dict[tuple[str, ...], bool] = {}

    def outcome(self, entry: Entry) -> Outcome:
        reason = not_applicable(entry, self._subject)
        if reason is None and entry.case.assume:
            assume = self._world_for(entry.case.assume)
            if assume is None:
                reason = f"the subject maps nothing, not even assuming {' and '.join(entry.case.assume)}"
            else:
                entry = replace(entry, case=in_world(entry.case, assume))
        if reason is not None:
            return Outcome("not applicable", entry.clause, (), reason)
        try:
            return self._judged(entry)
        except NotPermittedError as error:
            self._worker.renew()
            return Outcome("not applicable", entry.clause, (), str(error))
        except UnrealError as error:
            if not self._is_unreal(entry.case):
                raise  # this machine can: the message came from the subject's process
            return Outcome("not applicable", entry.clause, (), str(error))

    def _world_for(self, assume: tuple[str, ...]) -> tuple[str, ...] | None:
        """The conventions of the world in which a case that assumes these has something to tell of the subject: none if
        the subject keeps to QEMU's, and else the case's. None if it maps nothing in either: what it shows is then not
        what the case was kept for."""
        for some in ((), assume):
            if some not in self._goes_on:
                self._goes_on[some] = goes_on(self._runner, some)
                self._worker.renew()
                self._ran = 0
            if self._goes_on[some]:
                return some
        return None

    def _is_unreal(self, case: Case) -> bool:
        """Whether this machine cannot make a case real, whatever the subject."""
        with open_runner(CORE, parts=self._parts) as runner:
            try:
                violations_of(runner, case)
            except UnrealError:
                return True
            return False

    def _judged(self, entry: Entry) -> Outcome:
        """Judge an entry by what a fresh process shows, or one in which no case before it has shown anything."""
        used = bool(self._worker.history) or self._ran > 0
        self._ran += 1
        past = self._worker.past()
        violations = self._violations(self._runner, entry)
        expected = entry.clause is not None and self._may_remember
        seen_before: tuple[Violation, ...] = ()
        if violations or (used and expected):
            # What was seen once is not believed, not even of a fresh process.
            self._worker.renew()
            seen_before = violations
            violations = self._violations(self._runner, entry)
            for _ in range(_TRIES):
                if not _lost(seen_before, violations):
                    break
                self._worker.renew()
                violations = (*violations, *_lost(self._violations(self._runner, entry), violations))
            violations = (*violations, *self._after_others(entry, past, _lost(seen_before, violations)))
        if expected and (entry.case.sequence or entry.case.earlier):
            violations = self._elsewhere(entry, violations)
        outcome = _outcome(entry, violations)
        needs_others = {v.cause for v in violations if v.clause == "REPEATABLE"}
        lost = [v for v in _lost(seen_before, violations) if f"{v.clause}: {v.cause}" not in needs_others]
        if violations or lost:
            self._worker.renew()  # what it left behind is no part of the next case
            self._ran = 0
        if lost:
            said = f"violated {', '.join(dict.fromkeys(v.clause for v in lost))} once, but not again in a fresh process"
            doubtful = not outcome.fails and any(clauses()[v.clause].fails_a_check for v in lost)
            return replace(outcome, reason=said, status="unconfirmed" if doubtful else outcome.status)
        return outcome

    def _after_others(self, entry: Entry, past: Past, lost: Sequence[Violation]) -> tuple[Violation, ...]:
        """The lost violations that the case shows again after the cases that were run before it."""
        if not lost or not past.n or entry.case.concurrent:
            return ()
        self._worker.renew()
        case = replace(entry.case, earlier=(*past.cases(), *entry.case.earlier))
        _, verdict = self._by_its_policy(self._runner, entry).run_once(case)
        wanted = set(map(key, lost))
        return tuple(after_earlier(one) for one in verdict.violations if key(one) in wanted)

    def _violations(self, runner: Runner, entry: Entry) -> tuple[Violation, ...]:
        return violations_of(self._by_its_policy(runner, entry), entry.case)

    def _by_its_policy(self, runner: Runner, entry: Entry) -> Runner:
        return runner._replace(policy=self._policy or entry.policy)

    def _elsewhere(self, entry: Entry, violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
        """The violations, or if they lack the entry's clause those of further processes. What several calls do to each
        other may depend on where the kernel puts their mappings, which differs in each process that is started, and not
        in one that is forked: one process does not prove that a case is fixed."""
        for _ in range(_PLACES):
            if any(entry.clause in violation.clauses for violation in violations):
                break
            with open_runner(self._subject, parts=self._parts) as runner:
                violations = self._violations(runner, entry)
        return violations


def _lost(before: Sequence[Violation], now: Sequence[Violation]) -> list[Violation]:
    """The violations that were seen before and are not seen now."""
    there = set(map(key, now))
    return [violation for violation in before if key(violation) not in there]


def violations_of(runner: Runner, case: Case) -> tuple[Violation, ...]:
    """The violations that one run of a case shows; of concurrent calls, those that come again."""
    if case.concurrent:
        _, shown_again = seen_concurrent(runner, case)
        return tuple(again for _, again in shown_again if again is not None)
    _, verdict = runner.run_and_judge(case)
    return verdict.violations


def not_applicable(entry: Entry, subject: Subject) -> str | None:
    """Why a case does not apply to a subject, or cannot be run here; None if it can."""
    case = entry.case
    if entry.clause is not None and entry.clause not in clauses():
        return f"there is no clause {entry.clause}"
    if (reason := why_no_pages(case)) is not None:
        return reason
    if any(subject.adapt(one) != one for one in (case, *case.earlier)):
        return "the total size is not the sum of the lengths, and the subject is not told it"
    if not subject.has_errp and (case.errp == "null" or entry.clause == "ERROR_SET"):
        return "the subject has no place for an error"
    return None


def _outcome(entry: Entry, violations: Sequence[Violation]) -> Outcome:
    """A case is still failing if it violates its clause, and newly failing if it violates another that fails a
    check. Violated advice makes no case newly failing."""
    found = tuple(Found(one.clause, one.cause, one.summary) for v in violations for one in v.whole)
    status: Status
    if any(one.clause == entry.clause for one in found):
        status = "still failing"
    elif any(clauses()[one.clause].fails_a_check for one in found):
        status = "newly failing"
    else:
        status = "passes" if entry.clause is None else "fixed"
    return Outcome(status, entry.clause, found, "")
