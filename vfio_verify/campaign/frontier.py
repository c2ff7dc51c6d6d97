"""Finds the cases of a search that reach code of the subject that no case before them has reached."""

from __future__ import annotations

from collections.abc import Sequence

from vfio_verify.values.case import Case
from vfio_verify.worker.worker import Worker

_MOST_RUNS = 400
"""Runs that are made again to tell which of them was the first."""

Pioneer = tuple[Case, tuple[int, ...]]
"""A case, and the places where the blocks that it was the first to reach begin."""


class Frontier:
    """Looks at what a worker has covered after each piece of work. `known` was reached before, and is left out."""

    def __init__(self, worker: Worker, known: bytes) -> None:
        self._worker = worker
        self._known = places(known)
        self.pioneers: list[Pioneer] = []

    def look(self, cases: Sequence[Case]) -> None:
        """Find which of these cases of one layout, which were just run, reached something first."""
        new = places(self._worker.covered()) - self._known
        self._known |= new
        if cases[0].variables == "zero":
            return  # the same code, built in another way
        if len(cases) == 1 and new:
            self._add(cases[0], new)
            return
        for case in cases[:_MOST_RUNS]:
            if not new:
                break
            self._worker.mark_covered(new, now=False)
            self._worker.run(case)
            if reached := places(self._worker.covered()) & new:
                self._add(case, reached)
            self._worker.mark_covered(new, now=True)
            new -= reached

    def _add(self, case: Case, reached: set[int]) -> None:
        self.pioneers.append((case, tuple(sorted(reached))))


def places(covered: bytes) -> set[int]:
    """The places that are set in a map of `Worker.covered`."""
    return {at for at, byte in enumerate(covered) if byte}
