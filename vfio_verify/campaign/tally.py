"""What a campaign counts. One value, held by a shard's result, a check's result and a search's state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import Struct

LOST = "work of a lost process"
"""The name, in what is left out, of the work of a process that ended unexpectedly."""


class Tally(Struct):
    """Counts of layouts, of runs, and of what they exercised and were."""

    layouts: int = 0
    mapped: int = 0
    """Well-formed layouts that were mapped while no step failed."""
    runs: int = 0
    """Calls, with all faults."""
    sampled: int = 0
    """Runs whose contents were compared on a sample."""
    deaths: int = 0
    """Processes that the subject ended, hangs included."""
    hangs: int = 0
    checked: dict[str, int] = {}
    """How many runs exercised each clause."""
    features: dict[str, int] = {}
    """How many layouts had each feature, and how many runs each kind of fault."""
    kernel_runs: dict[str, int] = {}
    """Runs under each kind of kernel fault."""
    not_permitted: dict[str, str] = {}
    """Kinds of kernel faults that this machine refused, and why."""
    covered: bytes = b""
    """What of the subject's code ran: `Worker.covered`."""
    left_out: dict[str, int] = {}
    """What was not run, since the subject hangs or ends each process, or since a process was lost: how much of each
    part of the work."""

    def add(self, other: Tally) -> None:
        """Add what another part of the work has counted."""
        self.layouts += other.layouts
        self.mapped += other.mapped
        self.runs += other.runs
        self.sampled += other.sampled
        self.deaths += other.deaths
        self.hangs += other.hangs
        self.checked = _sum(self.checked, other.checked)
        self.features = _sum(self.features, other.features)
        self.kernel_runs = _sum(self.kernel_runs, other.kernel_runs)
        self.not_permitted = self.not_permitted | other.not_permitted
        self.covered = _either(self.covered, other.covered)
        self.left_out = _sum(self.left_out, other.left_out)

    def leave_out(self, what: str, count: int = 1) -> None:
        """Count what is not run."""
        if count:
            self.left_out[what] = self.left_out.get(what, 0) + count


def checked_by(runs: Mapping[frozenset[str], int]) -> dict[str, int]:
    """How many runs exercised each clause, by how many exercised which set of them."""
    checked: Counter[str] = Counter()
    for clauses, count in runs.items():
        checked.update(dict.fromkeys(clauses, count))
    return dict(checked)


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


def _either(one: bytes, other: bytes) -> bytes:
    """What is set in one of two maps of bytes."""
    size = max(len(one), len(other))
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(size, "little")
