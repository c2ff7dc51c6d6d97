"""Replay: kept cases run again on a subject, each judged as still failing, fixed, newly failing, not applicable, or
unconfirmed: it has shown a violation once, and not again.

Cases share a process, so that thousands are run in a second; whatever one shows is run again in a fresh process before
it is believed. So is, on a subject that may remember what it was called with, a failure that does not come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.campaign.pool import Pool
from vfio_verify.corpus.entry import Entry
from vfio_verify.errors import NotPermittedError, UnrealError
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import after_earlier, key
from vfio_verify.subject.subject import CORE, Subject
from vfio_verify.trial.confirm import seen_concurrent
from vfio_verify.trial.runner import Runner, open_runner
from vfio_verify.values.case import Case, Policy, why_no_pages
from vfio_verify.values.markup import json_report
from vfio_verify.values.spec import clauses
from vfio_verify.worker.sandbox import SandboxFeature
from vfio_verify.worker.worker import Past

Status = Literal["still failing", "newly failing", "unconfirmed", "fixed", "passes", "not applicable"]
STATUSES: tuple[Status, ...] = Status.__args__  # type: ignore[attr-defined]  # a Literal has them

_SMALLEST, _LARGEST, _PARTS = 50, 1000, 8
"""Cases of a batch, each of which starts a worker; and batches, unless they would be smaller or larger."""

_TRIES = 2
"""Fresh processes more, for what one has not shown again."""

_PLACES = 4
"""Processes more in which a case of several calls must show nothing."""


class Found(Struct, frozen=True):
    """One way in which a case violates a clause."""

    clause: str
    cause: str
    summary: str


class Outcome(Struct, frozen=True):
    """How a case fares. `clause` is the one that it was found to violate; `found` is what it violates now."""

    status: Status
    clause: str | None
    found: tuple[Found, ...] = ()
    reason: str = ""
    """Why it is not applicable; or what was seen once, and not again."""

    @property
    def fails(self) -> bool:
        """Is it a failure of the subject? What is only advised against is none."""
        return any(clauses()[one.clause].fails_a_check for one in self.found)


class CaseEntry(Struct, frozen=True):
    """A replayed case in a report; `name` is that of its file."""

    name: str
    status: Status
    clause: str | None
    found: tuple[Found, ...]
    reason: str


class ReplayReport(Struct, frozen=True, tag_field="schema", tag="vfio-verify/replay@1"):
    """The outcome of a replay. Cases that an interrupt left out are not among `cases`."""

    subject: str
    policy: Policy | None
    """None: for each case the one by which it was found."""
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


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """Of each status, how many."""
    met = Counter(outcome.status for outcome in outcomes)
    return {status: met[status] for status in STATUSES}


# ---- many cases --------------------------------------------------------------------------------------------


def replay(
    subject: Subject,
    entries: Sequence[Entry],
    *,
    policy: Policy | None = None,
    parts: SandboxFeature = SandboxFeature.ALL,
    jobs: int = 1,
) -> Generator[Outcome, None, None]:
    """An outcome for each entry, in their order, as soon as it and those before it are known. Without a policy each is
    judged by the one that it was found by.

    The same with any number of jobs: where the batches begin follows from the number of entries alone.
    """
    size = min(max(-(-len(entries) // _PARTS), _SMALLEST), _LARGEST)
    batches = [entries[start : start + size] for start in range(0, len(entries), size)]
    with Pool(min(jobs, len(batches))) as pool:
        # As JSON, since to pickle so many small values takes ten times as long: this process does it all.
        tasks = [(subject, policy, parts, batch if pool.is_here else msgspec.json.encode(batch)) for batch in batches]
        for outcomes in pool.map(replay_batch, tasks):
            yield from outcomes


def replay_batch(
    subject: Subject, policy: Policy | None, parts: SandboxFeature, entries: Sequence[Entry] | bytes
) -> list[Outcome]:
    """Entries, or their JSON, that share a worker, and its process until one of them shows something."""
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
        # The core keeps nothing from call to call. Of another subject nothing is known: a case is not called fixed
        # on what it does after others.
        self._may_remember = self._subject.library is not None
        self._ran = 0

    def outcome(self, entry: Entry) -> Outcome:
        reason = not_applicable(entry, self._subject)
        if reason is not None:
            return Outcome("not applicable", entry.clause, reason=reason)
        try:
            return self._judged(entry)
        except NotPermittedError as error:
            self._worker.renew()
            return Outcome("not applicable", entry.clause, reason=str(error))
        except UnrealError as error:
            if not self._is_unreal(entry.case):
                raise  # whoever says so is in the subject's process
            return Outcome("not applicable", entry.clause, reason=str(error))

    def _is_unreal(self, case: Case) -> bool:
        """Can this machine not make a case real, whatever the subject?"""
        with open_runner(CORE, parts=self._parts) as runner:
            try:
                violations_of(runner, case)
            except UnrealError:
                return True
            return False

    def _judged(self, entry: Entry) -> Outcome:
        """As a fresh process shows it, or one in which nothing but the case was seen."""
        used = bool(self._worker.history) or self._ran > 0
        self._ran += 1
        past = self._worker.past()
        violations = self._violations(self._runner, entry)
        expected = entry.clause is not None and self._may_remember
        seen_before: tuple[Violation, ...] = ()
        if violations or (used and expected):
            # What it shows once is not believed, whichever process it was.
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
        known = {f"{v.clause}: {v.cause}" for v in violations if v.clause == "REPEATABLE"}
        lost = [v for v in _lost(seen_before, violations) if f"{v.clause}: {v.cause}" not in known]
        if violations or lost:
            self._worker.renew()  # what it left behind is no part of the next case
            self._ran = 0
        if lost:
            said = f"violated {', '.join(dict.fromkeys(v.clause for v in lost))} once, and not again in a fresh process"
            doubtful = not outcome.fails and any(clauses()[v.clause].fails_a_check for v in lost)
            return replace(outcome, reason=said, status="unconfirmed" if doubtful else outcome.status)
        return outcome

    def _after_others(self, entry: Entry, past: Past, lost: Sequence[Violation]) -> tuple[Violation, ...]:
        """What the case shows again after the cases that were run before it, and not without them."""
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
        """What several calls do to each other may depend on where the kernel puts their mappings, and that is another
        place in each process that is started, and not in one that is forked: one of them does not call a case fixed."""
        for _ in range(_PLACES):
            if any(entry.clause in violation.clauses for violation in violations):
                break
            with open_runner(self._subject, parts=self._parts) as runner:
                violations = self._violations(runner, entry)
        return violations


def _lost(before: Sequence[Violation], now: Sequence[Violation]) -> list[Violation]:
    """What was seen before, and is not now."""
    there = set(map(key, now))
    return [violation for violation in before if key(violation) not in there]


def violations_of(runner: Runner, case: Case) -> tuple[Violation, ...]:
    """What one run shows, and, of concurrent calls, what comes again."""
    if case.concurrent:
        _, shown_again = seen_concurrent(runner, case)
        return tuple(again for _, again in shown_again if again is not None)
    _, verdict = runner.run_and_judge(case)
    return verdict.violations


def not_applicable(entry: Entry, subject: Subject) -> str | None:
    """Why a case has nothing to ask of a subject, or cannot be run here; None if it can."""
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
    check. A clause that only advises makes nothing newly failing."""
    found = tuple(Found(one.clause, one.cause, one.summary) for v in violations for one in v.whole)
    status: Status
    if any(one.clause == entry.clause for one in found):
        status = "still failing"
    elif any(clauses()[one.clause].fails_a_check for one in found):
        status = "newly failing"
    else:
        status = "passes" if entry.clause is None else "fixed"
    return Outcome(status, entry.clause, found)
