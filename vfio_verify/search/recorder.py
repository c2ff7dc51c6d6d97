"""What a search has seen, on its way to the disk."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import NamedTuple

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import ShardResult
from vfio_verify.campaign.shards import Shard
from vfio_verify.corpus.entry import Entry, found
from vfio_verify.corpus.shared import Corpus
from vfio_verify.judge import Violation
from vfio_verify.judge.sameness import absorbed
from vfio_verify.report.violations import violation_entry
from vfio_verify.search.budget import Ending
from vfio_verify.search.place import Place
from vfio_verify.search.scheduler import ATTEMPTS
from vfio_verify.search.state import Change, Finding, State
from vfio_verify.search.tasks import CandidateTask, Known
from vfio_verify.search.watcher import SearchProgress, Watcher
from vfio_verify.subject.subject import Subject
from vfio_verify.trial.candidates import CandidateTable, first
from vfio_verify.values.cause import Key
from vfio_verify.values.markup import encodable
from vfio_verify.values.spec import clauses

_SAVE_SECONDS, _IDLE_SECONDS = 1.0, 10.0
"""Between saves, and between those where nothing is new but the time."""
_MAX_CAUSES = 16
"""Ways of violating one clause that are looked into."""


class _Held(NamedTuple):
    """A shard that was run, and those of its candidates that are not yet decided."""

    number: int
    result: ShardResult
    undecided: set[Key]


class Recorder:
    """Keeps the corpus and the state of a search.

    A shard is held until each of its candidates is decided: confirmed, or not seen again. A finding is stored in the
    corpus and then in the state, and after that the shard counts as done. So what is lost when the search is killed are
    shards that will be run again.
    """

    def __init__(
        self,
        subject: Subject,
        options: Options,
        corpus: Corpus | None,
        place: Place,
        state: State,
        *,
        ending: Ending,
        watcher: Watcher,
    ) -> None:
        self._subject, self._options, self._corpus, self._place = subject, options, corpus, place
        self.state, self.ending, self._watcher = state, ending, watcher
        self.undecided: set[Key] = set()
        self.unconfined: dict[str, None] = {}
        self.new_layouts = self.new_runs = self.new_entries = 0
        self.new_findings: list[Finding] = []
        self._held: list[_Held] = []
        self._changes: list[Change] = []
        self._unsaved: list[Finding] = []
        self._told = state.keys
        self._before = state.seconds
        self._saved = time.monotonic()
        self._lines = b"", (0, 0)

    # ---- a shard ---------------------------------------------------------------------------------------------

    def known(self) -> Known:
        """What a shard need not tell again."""
        given_up = {(one.clause, one.cause) for one in self.state.unconfirmed if one.times >= ATTEMPTS}
        return Known(frozenset(self.undecided.union(self.state.confirmed, given_up)), self.state.covered)

    def add_shard(self, shard: Shard, result: ShardResult) -> list[CandidateTask]:
        """Hold a shard that was run. The answer: what is to be decided before it is done."""
        self.new_layouts += result.tally.layouts
        self.new_runs += result.tally.runs
        known, causes = self.known().keys, self.undecided.union(self.state.confirmed)
        per_clause = Counter(clause for clause, _ in causes)
        new = {
            key: candidates
            for key, candidates in result.candidates.found.items()
            if key not in known and per_clause[key[0]] < _MAX_CAUSES
        }
        # What another finding tells is not confirmed: it would be the same fault twice.
        told = absorbed({*new, *causes})
        tasks = [CandidateTask(key, candidates, shard.number) for key, candidates in new.items() if key not in told]
        self.undecided.update(task.key for task in tasks)
        result.candidates = CandidateTable()
        self._held.append(_Held(shard.number, result, {task.key for task in tasks}))
        self._release()
        return tasks

    def lose_shard(self, shard: Shard) -> None:
        """Leave out a shard whose process ended in each attempt."""
        self._change(lambda state: state.lose(shard.number))
        self._watcher.note(f"shard {shard.number} is left out: its process ended unexpectedly {ATTEMPTS} times")

    def _release(self) -> None:
        """Count the shards that wait for no candidate."""
        for held in [held for held in self._held if not held.undecided]:
            self._held.remove(held)
            self._count(held)

    def _count(self, held: _Held) -> None:
        self._store_pioneers(held.result)
        self._change(lambda state: state.add_shard(held.number, held.result.tally))
        self.unconfined |= dict.fromkeys(held.result.unconfined)

    def _store_pioneers(self, result: ShardResult) -> None:
        """Store the cases that reach lines that none before them has reached."""
        if self._corpus is None or not result.pioneers:
            return
        reached, _ = self._subject.lines_reached(self.state.covered)
        known = {(line.file, line.line) for line in reached}
        for case, places in result.pioneers:
            lines = {(line.file, line.line) for line in map(self._subject.line_at, places) if line is not None}
            if new := sorted(lines - known):
                known |= lines
                names = tuple(encodable(f"{os.path.basename(file)}:{line}") for file, line in new)
                self.new_entries += self._corpus.store(Entry(case, lines=names)) is not None

    # ---- a candidate -----------------------------------------------------------------------------------------

    def decide(self, task: CandidateTask, violation: Violation | None) -> None:
        """Store the violation if the candidate is confirmed, and let its shard be done."""
        self.undecided.discard(task.key)
        if violation is None:
            self._change(lambda state: state.add_unconfirmed(task.key))
            summary = first(task.candidates).summary
            self._watcher.note(f"seen, and not again in a fresh process: {task.key[0]}: {summary}")
        else:
            self._store(violation, task.shard)
            self._change(lambda state: state.add_confirmed(task.key))
        for held in self._held:
            held.undecided.discard(task.key)
        self._release()
        self.save(now=True)

    def _store(self, violation: Violation, shard: int) -> None:
        """Store a confirmed violation, first in the corpus and then in the state."""
        key = violation.clause, violation.cause
        if key in self.state.keys:
            return  # it was seen in two ways, after earlier calls and in a sequence
        name = None
        if self._corpus is not None:
            options = self._options
            entry = found(self._subject.name, *key, violation.case, seed=options.seed, policy=options.policy)
            self.new_entries += self._corpus.store(entry) is not None
            name = entry.name
        seconds = self._before + self.ending.elapsed
        finding = Finding(violation_entry(violation, self._subject), violation.cause, name, shard, seconds)
        self._change(lambda state: state.keep(finding))
        self._unsaved.append(finding)
        self._tell(finding)

    def _tell(self, finding: Finding) -> None:
        """Tell of a finding of this search, or of another one that shares the state."""
        self._told.add(finding.key)
        self._watcher.found(finding)
        if clauses()[finding.violation.clause].fails_a_check:
            self.ending.violation_confirmed()

    # ---- the state -------------------------------------------------------------------------------------------

    def _change(self, change: Change) -> None:
        change(self.state)
        self._changes.append(change)

    def save(self, *, now: bool) -> None:
        """Save the state, if this is asked for now or was not done for a while."""
        more = time.monotonic() - self._saved
        if not now and more < (_SAVE_SECONDS if self._changes else _IDLE_SECONDS):
            return
        self._saved += more
        self._change(lambda state: state.go_on(more))
        self.state = self._place.save(self.state, self._changes)
        self._changes = []
        # Another search that shares the state may have been the first.
        self.new_findings += [finding for finding in self._unsaved if finding in self.state.findings]
        self._unsaved = []
        for finding in self.state.findings:
            if finding.key not in self._told:
                self._tell(finding)

    # ---- what is told ----------------------------------------------------------------------------------------

    @property
    def has_run(self) -> bool:
        """Whether any layout was run, by this search or those that it goes on with."""
        return bool(self.new_layouts or self.state.layouts)

    def tick(self, restarts: int) -> None:
        """Tell how the search stands, shards that are held included."""
        held = [held.result.tally for held in self._held]
        self._watcher.tick(
            SearchProgress(
                self.state,
                self.ending.elapsed,
                self.ending.budget,
                layouts=self.state.layouts + sum(tally.layouts for tally in held),
                runs=self.state.runs + sum(tally.runs for tally in held),
                new_layouts=self.new_layouts,
                new_runs=self.new_runs,
                new_entries=self.new_entries,
                undecided=len(self.undecided),
                restarts=restarts,
                lines=self._lines_reached(),
            )
        )

    def _lines_reached(self) -> tuple[int, int]:
        """Lines of the subject: those reached, and all that have code."""
        if self.state.covered != self._lines[0]:
            reached, others = self._subject.lines_reached(self.state.covered)
            self._lines = self.state.covered, (len(reached), len(reached) + len(others))
        return self._lines[1]
