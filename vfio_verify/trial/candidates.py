"""Violations before they are confirmed: a few for each way of violating a clause, of different kinds.

The smallest case need not be one that comes again: it may have needed the calls before it. So a case that was seen
after few calls, a sequence and concurrent calls each keep a place beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.values.case import Case
from vfio_verify.values.cause import Key
from vfio_verify.values.cost import cost
from vfio_verify.worker.worker import Past

Kind = Literal["smallest", "soonest", "kernel fault", "sequence", "concurrent"]

_Rank = tuple[Any, ...]
"""Of a candidate among those of its key and kind: less is better."""
_MAX_CAUSES = 1000
"""Ways of violating clauses that are kept: a subject may have a new one in every run."""


class Candidate(NamedTuple):
    """A violation as it was seen, and the calls made before it in the same process."""

    violation: Violation
    history: tuple[Case, ...]


Candidates = dict[Kind, Candidate]
"""The candidates of one key."""


def first(candidates: Candidates) -> Violation:
    """The violation that is shown where none of the candidates came again."""
    return next(iter(candidates.values())).violation


class CandidateTable:
    """The candidates of each key, in the order in which the keys were first seen."""

    def __init__(self) -> None:
        self.found: dict[Key, Candidates] = {}
        self._ranks: dict[tuple[Key, Kind], _Rank] = {}

    def add(self, violation: Violation, past: Past) -> None:
        """Keep a violation if it has a place."""
        name = key(violation)
        if not self._is_wanted(name):
            return
        worth = cost(violation.case)
        for kind in _kinds(violation.case):
            rank = (past.n, worth) if kind == "soonest" else (worth, past.n)
            if self._is_better(name, kind, rank):
                self._keep(name, kind, rank, Candidate(violation, past.cases()))

    def merge(self, others: CandidateTable) -> list[Violation]:
        """Keep what others have seen, where it is better. Returns one violation of each key that is new."""
        new = []
        for name, candidates in others.found.items():
            if not self._is_wanted(name):
                continue
            if name not in self.found:
                new.append(first(candidates))
            for kind, candidate in candidates.items():
                if self._is_better(name, kind, rank := others._ranks[name, kind]):
                    self._keep(name, kind, rank, candidate)
        return new

    def forget(self, keys: Collection[Key]) -> None:
        """Drop the candidates of these keys."""
        self.found = {name: candidates for name, candidates in self.found.items() if name not in keys}
        self._ranks = {place: rank for place, rank in self._ranks.items() if place[0] not in keys}

    def _is_better(self, name: Key, kind: Kind, rank: _Rank) -> bool:
        """Whether a candidate of this rank is kept in the place of the one that is there, if any."""
        return (known := self._ranks.get((name, kind))) is None or rank < known

    def _keep(self, name: Key, kind: Kind, rank: _Rank, candidate: Candidate) -> None:
        self.found.setdefault(name, {})[kind] = candidate
        self._ranks[name, kind] = rank

    def _is_wanted(self, name: Key) -> bool:
        return name in self.found or len(self.found) < _MAX_CAUSES


def _kinds(case: Case) -> tuple[Kind, ...]:
    if case.sequence:
        return ("sequence",)
    if case.concurrent:
        return ("concurrent",)
    return ("kernel fault",) if case.kernel_fault is not None else ("smallest", "soonest")
