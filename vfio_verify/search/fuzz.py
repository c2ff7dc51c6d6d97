"""A search without end: the shards of a campaign one after the other on any executor, until a budget is spent.

What is new is confirmed, made small and kept as soon as it is met. A shard counts as done only when all that it showed
is settled and on the disk, so that a search may be killed at any moment and lose no more than the shards under way.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from vfio_verify.campaign.check import Result, confirm
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import Interrupts
from vfio_verify.campaign.shard import ShardResult
from vfio_verify.campaign.shards import Shard, whole_shard
from vfio_verify.corpus.entry import Entry, found
from vfio_verify.corpus.shared import Corpus, DirectoryCorpus, RedisCorpus
from vfio_verify.errors import HarnessError
from vfio_verify.generate.kernel_faults import account, permitted, reasons_against, why_not
from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import Key
from vfio_verify.judge.sameness import absorbed
from vfio_verify.report.report import ViolationEntry, make_report
from vfio_verify.search.outcome import Budget, Outcome, Reason, with_findings
from vfio_verify.search.shared import SharedPlace
from vfio_verify.search.state import Change, FilePlace, Finding, Part, Place, State
from vfio_verify.search.tasks import Known, OwnWorkers, Workers, run_part
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import Candidates, CandidateTable, first
from vfio_verify.trial.confirm import Confirmation
from vfio_verify.values.case import KernelFaultKind
from vfio_verify.values.markup import encodable
from vfio_verify.values.spec import clauses

_TICK_SECONDS = 0.25
_SAVE_SECONDS, _IDLE_SECONDS = 1.0, 10.0
"""Between saves, and where there is nothing new but the time."""
_GRACE_SECONDS, _FIRST_GRACE_SECONDS = 15.0, 90.0
"""Beyond the budget, to settle what was met within it; the second where nothing was found so far: what hangs is slow to
be made small. Also for the first layouts of all, where the machine is busy with other things."""
_ATTEMPTS = 3
"""At a shard or a candidate, where the process that has it ends unexpectedly; and at a candidate's coming again."""
_MAX_CAUSES = 16


class Progress(NamedTuple):
    """A search as it stands. What is counted is of all searches that add up to this one, but for `new_*`."""

    state: State
    elapsed: float
    budget: Budget
    layouts: int
    runs: int
    new_layouts: int
    new_runs: int
    new_entries: int
    shards: int
    unsettled: int
    restarts: int
    lines: tuple[int, int] = (0, 0)
    """Of the subject: reached, and all that have code."""


class Watcher(Protocol):
    """Who is told how a search goes on."""

    def found(self, finding: Finding) -> None:
        """A violation is confirmed, made small and stored."""

    def note(self, text: str) -> None:
        """Something else that is to be known at once."""

    def tick(self, progress: Progress) -> None:
        """Some four times a second."""


def fuzz(
    subject: Subject,
    options: Options,
    budget: Budget,
    watcher: Watcher,
    *,
    corpus: Path | Corpus | None = None,
    part: Part = Part(),  # noqa: B008  # it is a value
    fresh: bool = False,
    executor: Executor | None = None,
    lost: tuple[type[Exception], ...] = (BrokenExecutor,),
    at_once: Callable[[], int] | None = None,
    why_no_kernel_fault: Callable[[KernelFaultKind], str | None] = why_not,
) -> Outcome:
    """Search until the budget is spent, or Ctrl-C. `executor` runs as many tasks at once as `at_once` says each time,
    and else `options.jobs`; without one, processes are started. `lost` are the exceptions by which it tells that a
    task's process is gone; the task is then given to it again. Raises InputError if the corpus cannot be used or is in
    use for the same search.
    """
    kept = DirectoryCorpus(corpus) if isinstance(corpus, Path) else corpus
    place = _place(kept, subject, options, part)
    reasons = reasons_against(why_no_kernel_fault)
    with place.taken(), Interrupts() as interrupts:
        interrupts.deferred = True
        state = place.reset() if fresh else place.load()
        others = [] if fresh else place.others()
        if executor is None:
            workers: Workers = OwnWorkers(options.jobs)
        else:
            workers = Workers(executor, lost, at_once or (lambda: options.jobs))
        search = _Search(
            subject=subject,
            options=options,
            budget=budget,
            watcher=watcher,
            place=place,
            corpus=kept,
            state=state,
            others=others,
            workers=workers,
            reasons=reasons,
        )
        try:
            return search.run(interrupts)
        finally:
            workers.end()


def _place(corpus: Corpus | None, subject: Subject, options: Options, part: Part) -> Place:
    if isinstance(corpus, RedisCorpus):
        return SharedPlace(corpus, subject, options, part)
    return FilePlace(corpus.path if isinstance(corpus, DirectoryCorpus) else None, subject, options, part)


class _Task(NamedTuple):
    """What is under way: a shard, or a candidate that is confirmed and made small."""

    what: tuple[int, Shard] | tuple[Key, Candidates, int]
    attempts: int = 1


class _Held(NamedTuple):
    """A shard that is run, and what of it is still to be settled."""

    at: int
    result: ShardResult
    keys: set[Key]


class _Search:
    def __init__(
        self,
        *,
        subject: Subject,
        options: Options,
        budget: Budget,
        watcher: Watcher,
        place: Place,
        corpus: Corpus | None,
        state: State,
        others: list[State],
        workers: Workers,
        reasons: dict[KernelFaultKind, str],
    ) -> None:
        self._subject, self._options, self._budget, self._watcher = subject, options, budget, watcher
        self._place, self._corpus, self._state, self._others = place, corpus, state, others
        self._workers, self._reasons = workers, reasons
        self._kinds = permitted(reasons)
        self._numbers = self._undone()
        self._passed: list[tuple[int, int]] = []
        self._tasks: dict[Future[Any], _Task] = {}
        self._again: list[_Task] = []
        self._candidates: list[_Task] = []
        self._held: list[_Held] = []
        self._settling: set[Key] = set()
        self._changes: list[Change] = []
        self._told = state.keys
        self._unconfined: dict[str, None] = {}
        self._new: list[Finding] = []
        self._counted = b"", (0, 0)
        self._new_layouts = self._new_runs = self._new_entries = self._asked = self._in_a_row = self._restarts = 0
        self._before, self._start = state.seconds, time.monotonic()
        self._saved = self._looked = self._start
        self._stop: Reason | None = None

    # ---- the loop ------------------------------------------------------------------------------------------

    def run(self, interrupts: Interrupts) -> Outcome:
        """Until there is nothing more to do, or no more time to do it."""
        deadline = None if self._budget.seconds is None else self._start + self._budget.seconds
        while True:
            self._fill()
            if not self._tasks and self._again:
                continue  # with other processes
            if not self._tasks:
                break
            done, _ = wait(self._tasks, self._patience(deadline), FIRST_COMPLETED)
            for future in done:
                self._finish(future)
            self._save(soon=False)
            self._watcher.tick(self._progress())
            try:
                interrupts.raise_if_asked()
            except KeyboardInterrupt:
                self._stop = "interrupted"
                break
            if deadline is not None and time.monotonic() >= deadline:
                self._stop = self._stop or "time"
            if self._is_over():
                break
        seconds = time.monotonic() - self._start
        for future in self._tasks:
            future.cancel()
        self._save(soon=True)
        if self._stop == "time" and not self._has_run:
            raise HarnessError(f"not one of the first layouts was run to its end in {seconds:.0f} seconds")
        return self._outcome(seconds)

    def _patience(self, deadline: float | None) -> float:
        left = _TICK_SECONDS if deadline is None or self._stop else deadline - time.monotonic()
        return max(0.0, min(_TICK_SECONDS, left))

    def _is_over(self) -> bool:
        """Does what is under way need not be waited for? What was met within the budget is settled, for a while."""
        if self._stop is None or self._stop == "layouts":
            return False
        if self._budget.fail_fast and self._stop == "found":
            return True
        over = 0.0 if self._budget.seconds is None else time.monotonic() - self._start - self._budget.seconds
        if not self._has_run and over <= _FIRST_GRACE_SECONDS:
            return False  # of nothing there is no verdict
        grace = _GRACE_SECONDS if self._state.findings else _FIRST_GRACE_SECONDS
        if self._settling and over <= grace:
            self._give_up_shards()
            return False
        return True

    @property
    def _has_run(self) -> bool:
        """Was any layout run, by this search or those that it goes on with?"""
        return bool(self._new_layouts or self._state.layouts)

    def _give_up_shards(self) -> None:
        """Let what is to be settled not wait for shards that nobody waits for."""
        given_up = [future for future, task in self._tasks.items() if len(task.what) == 2]
        queued = len(self._tasks) > self._workers.slots
        for future in given_up:
            if future.cancel() or queued:
                del self._tasks[future]
        if queued and given_up and self._workers.renew():
            self._candidates += self._tasks.values()
            self._tasks.clear()

    def _undone(self) -> Iterator[tuple[int, int]]:
        """This part's shards that nobody has done, by their place among them and their number in the campaign."""
        part = self._state.part
        for index in itertools.count():
            number = index * part.of + part.number
            if not self._is_done(number):
                yield index, number

    def _is_done(self, number: int) -> bool:
        return self._state.has(number) or any(other.has(number) for other in self._others)

    def _next(self) -> tuple[int, int]:
        """A shard that no other search does. What one was to do and has not done, since it was killed, comes again."""
        now = time.monotonic()
        if self._passed and now - self._looked >= _IDLE_SECONDS:
            self._looked = now
            self._passed = [(index, number) for index, number in self._passed if not self._is_done(number)]
            for at, (_, number) in enumerate(self._passed):
                if self._place.claim(number):
                    return self._passed.pop(at)
        for index, number in self._numbers:
            if self._place.claim(number):
                return index, number
            self._passed.append((index, number))
        raise AssertionError("there is no last shard")

    def _fill(self) -> None:
        """Findings first; of shards one more than there are processes. What was lost is tried again on its own."""
        while self._candidates:
            self._submit(self._candidates.pop(0))
        if self._again:
            if not self._tasks:
                self._submit(self._again.pop(0))
            return
        held_back = self._budget.fail_fast and self._settling
        while not self._stop and not held_back and not self._again and len(self._tasks) <= self._workers.slots:
            if self._budget.layouts is not None and self._asked >= self._budget.layouts:
                self._stop = "layouts"
                return
            index, number = self._next()
            shard = whole_shard(self._options.seed, number)
            self._asked += shard.examples
            self._submit(_Task((index, shard)))

    def _submit(self, task: _Task) -> None:
        subject, options = self._subject, self._options
        try:
            if len(task.what) == 2:
                shard = task.what[1]
                known = Known(self._known(), self._state.covered)
                future = self._workers.submit(run_part, subject, options, shard, self._kinds, known)
            else:
                future = self._workers.submit(confirm, subject, options, task.what[1])
        except self._workers.lost:
            # Broken, and not yet told by a task of its own.
            self._again.append(task)
            if not self._tasks:
                self._replace_workers()
        else:
            self._tasks[future] = task

    def _known(self) -> frozenset[Key]:
        given_up = {(clause, cause) for clause, cause, times in self._state.unconfirmed if times >= _ATTEMPTS}
        return frozenset(self._settling.union(self._state.settled, given_up))

    def _finish(self, future: Future[Any]) -> None:
        task = self._tasks.pop(future, None)
        if task is None:
            return
        try:
            value = future.result()
        except self._workers.lost:
            self._lose(task)
            return
        self._in_a_row = 0
        if len(task.what) == 2:
            self._add_shard(*task.what, value)
        else:
            self._settle(*task.what, value)

    def _lose(self, task: _Task) -> None:
        """A process ended. Nobody knows whose task was to blame, so each is tried again, and one after the other."""
        if task.attempts < _ATTEMPTS:
            self._again.append(task._replace(attempts=task.attempts + 1))
        elif len(task.what) == 2:
            index, shard = task.what
            self._change(lambda state: state.lose(index))
            self._watcher.note(f"shard {shard.number} is left out: its process ended unexpectedly {_ATTEMPTS} times")
        else:
            self._settle(*task.what, Confirmation(None, 0))
        if not self._tasks:
            self._replace_workers()

    def _replace_workers(self) -> None:
        self._in_a_row += 1
        if self._in_a_row > 2 * _ATTEMPTS:
            raise HarnessError("the search's processes end unexpectedly, one after the other (out of memory?)")
        self._workers.renew()
        self._restarts += 1

    # ---- results -------------------------------------------------------------------------------------------

    def _add_shard(self, index: int, shard: Shard, result: ShardResult) -> None:
        self._new_layouts += result.tally.layouts
        self._new_runs += result.tally.runs
        new = {key: candidates for key, candidates in result.candidates.found.items() if self._is_new(key)}
        # What another finding tells is not settled: it would be the same fault twice.
        told = absorbed({*new, *self._settling, *self._state.settled})
        fresh = {key: candidates for key, candidates in new.items() if key not in told}
        for key, candidates in fresh.items():
            self._settling.add(key)
            self._candidates.append(_Task((key, candidates, shard.number)))
        result.candidates = CandidateTable()
        held = _Held(index, result, set(fresh))
        if fresh:
            self._held.append(held)
        else:
            self._add(held)

    def _is_new(self, key: Key) -> bool:
        known = self._settling.union(self._state.settled)
        return key not in self._known() and sum(clause == key[0] for clause, _ in known) < _MAX_CAUSES

    def _settle(self, key: Key, candidates: Candidates, shard: int, confirmation: Confirmation) -> None:
        self._settling.discard(key)
        violation = confirmation.violation
        if violation is None:
            self._change(lambda state: state.doubt(key))
            summary = first(candidates).summary
            self._watcher.note(f"seen, and not again in a fresh process: {key[0]}: {summary}")
        else:
            self._keep(violation, shard)
            self._change(lambda state: state.settle(key))
        for held in self._held:
            held.keys.discard(key)
            if not held.keys:
                self._add(held)
        self._held = [held for held in self._held if held.keys]
        self._save(soon=True)

    def _keep(self, violation: Violation, shard: int) -> None:
        """Store what is confirmed: first in the corpus, then in the state."""
        key = violation.clause, violation.cause
        if key in self._state.keys:
            return  # met in two ways, after earlier calls and in a sequence
        name = None
        if self._corpus is not None:
            options = self._options
            entry = found(self._subject.name, *key, violation.case, seed=options.seed, policy=options.policy)
            self._new_entries += self._corpus.store(entry) is not None
            name = entry.name
        finding = Finding(self._entry(violation), violation.cause, name, shard, self._before + self._elapsed())
        self._change(lambda state: state.keep(finding))
        self._new.append(finding)
        self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        """Of one's own, or of another search's for the same."""
        self._told.add(finding.key)
        self._watcher.found(finding)
        if (self._budget.until_found or self._budget.fail_fast) and clauses()[finding.violation.clause].fails_a_check:
            self._stop = "interrupted" if self._stop == "interrupted" else "found"

    def _entry(self, violation: Violation) -> ViolationEntry:
        (entry,) = make_report(self._subject, self._options, Result(confirmed=(violation,))).violations
        return entry

    def _add(self, held: _Held) -> None:
        """All that a shard showed is settled: it is done."""
        self._keep_pioneers(held.result)
        self._change(lambda state: state.add_shard(held.at, held.result.tally))
        self._unconfined |= dict.fromkeys(held.result.unconfined)

    def _lines(self) -> tuple[int, int]:
        covered = self._state.covered
        if covered != self._counted[0]:
            reached, others = self._subject.lines_reached(covered)
            self._counted = covered, (len(reached), len(reached) + len(others))
        return self._counted[1]

    def _keep_pioneers(self, result: ShardResult) -> None:
        """Store the cases that reach lines that none before them has reached."""
        if self._corpus is None or not result.pioneers:
            return
        reached, _ = self._subject.lines_reached(self._state.covered)
        known = {(line.file, line.line) for line in reached}
        for case, places in result.pioneers:
            lines = {(line.file, line.line) for line in map(self._subject.line_at, places) if line is not None}
            if new := sorted(lines - known):
                known |= lines
                names = tuple(encodable(f"{os.path.basename(file)}:{line}") for file, line in new)
                self._new_entries += self._corpus.store(Entry(case, lines=names)) is not None

    # ---- what is told --------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _change(self, change: Change) -> None:
        change(self._state)
        self._changes.append(change)

    def _save(self, *, soon: bool) -> None:
        now = time.monotonic()
        if not soon and now - self._saved < (_SAVE_SECONDS if self._changes else _IDLE_SECONDS):
            return
        more = now - self._saved
        self._saved = now
        self._change(lambda state: state.go_on(more))
        self._state = self._place.save(self._state, self._changes)
        self._changes = []
        for finding in self._state.findings:
            if finding.key not in self._told:
                self._tell(finding)

    def _progress(self) -> Progress:
        held = [held.result for held in self._held]
        return Progress(
            self._state,
            self._elapsed(),
            self._budget,
            self._state.layouts + sum(result.tally.layouts for result in held),
            self._state.runs + sum(result.tally.runs for result in held),
            self._new_layouts,
            self._new_runs,
            self._new_entries,
            sum(end - start for start, end in self._state.done),
            len(self._settling),
            self._restarts,
            self._lines(),
        )

    def _outcome(self, seconds: float) -> Outcome:
        state = self._state
        interrupted = self._stop == "interrupted"
        result = Result(
            tally=state,
            interrupted=interrupted,
            unconfined=tuple(self._unconfined),
            kernel_faults=account(state.kernel_runs, self._reasons | state.not_permitted, interrupted=interrupted),
        )
        report = make_report(self._subject, self._options, result)
        return Outcome(
            report=with_findings(report, state, sorted(self._settling)),
            state=state,
            reason=self._stop or "layouts",
            seconds=seconds,
            new_layouts=self._new_layouts,
            new_runs=self._new_runs,
            new_findings=tuple(self._new),
            unsettled=tuple(sorted(self._settling)),
        )
