"""What a search tells while it goes on."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from vfio_verify.search.budget import Budget
from vfio_verify.search.state import Finding, State


class SearchProgress(NamedTuple):
    """A search as it stands. Counts are of all searches that add up to this one, except for `new_*`."""

    state: State
    elapsed: float
    """Seconds."""
    budget: Budget
    layouts: int
    runs: int
    new_layouts: int
    new_runs: int
    new_entries: int
    """Cases that are new in the corpus."""
    undecided: int
    """Candidates that are being confirmed and minimized."""
    restarts: int
    lines: tuple[int, int] = (0, 0)
    """Lines of the subject: those reached, and all that have code."""


class Watcher(Protocol):
    """Who is told how a search goes on."""

    def found(self, finding: Finding) -> None:
        """A violation is confirmed, minimized and stored."""

    def note(self, text: str) -> None:
        """Something else has happened that is to be known at once."""

    def tick(self, progress: SearchProgress) -> None:
        """Called some four times a second."""
