"""Where a search stands: what was done and found, so that the next one goes on from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct, field

from vfio_verify.campaign.tally import Tally
from vfio_verify.report.violations import ViolationEntry
from vfio_verify.values.cause import Key


class Part(NamedTuple):
    """One of several parts of the work, `number` from 0: its shards are the campaign's with that remainder."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number + 1}/{self.of}"


class Finding(Struct, frozen=True):
    """A confirmed violation on a minimized case, and where it was seen."""

    violation: ViolationEntry
    cause: str
    file: str | None
    """Its name in the corpus."""
    shard: int
    seconds: float
    """How long was searched until it was found."""

    @property
    def key(self) -> Key:
        return self.violation.clause, self.cause


class Unconfirmed(NamedTuple):
    """The key of candidates that were not seen again, and how often that happened."""

    clause: str
    cause: str
    times: int


class State(Tally, Struct, tag_field="schema", tag="vfio-verify/search@1"):
    """What all searches so far add up to. A shard is in `done` once all that it has shown is in the other fields."""

    part: Part = Part()
    done: list[tuple[int, int]] = []
    """Ranges of this part's shards, counted from its first one."""
    seconds: float = 0.0
    findings: list[Finding] = []
    confirmed: list[Key] = field(default_factory=list, name="settled")
    """Keys of candidates that were confirmed. A finding can have another clause than its candidate."""
    unconfirmed: list[Unconfirmed] = []
    """Candidates that were not seen again."""
    lost: list[int] = []
    """Shards whose process ended unexpectedly in each attempt."""

    def mark(self, index: int) -> None:
        """Put one of this part's shards, counted from the first, into `done`."""
        ranges = sorted([*self.done, (index, index + 1)])
        self.done = [ranges[0]]
        for start, end in ranges[1:]:
            if start <= self.done[-1][1]:
                self.done[-1] = self.done[-1][0], max(end, self.done[-1][1])
            else:
                self.done.append((start, end))

    def add_shard(self, number: int, tally: Tally) -> None:
        """Count a shard as done, with what it has counted. Nothing changes if another search has done it."""
        if not self.has(number):
            self.mark(number // self.part.of)
            self.add(tally)

    def lose(self, number: int) -> None:
        """Count a shard as done whose process ended unexpectedly in each attempt."""
        if not self.has(number):
            self.lost = [*self.lost, number]
            self.mark(number // self.part.of)

    def keep(self, finding: Finding) -> None:
        """Keep one finding for each way of violating a clause."""
        if finding.key not in self.keys:
            self.findings = [*self.findings, finding]

    @property
    def keys(self) -> set[Key]:
        """The keys of all findings."""
        return {finding.key for finding in self.findings}

    def add_confirmed(self, key: Key) -> None:
        """A candidate with this key is confirmed."""
        self.confirmed = sorted({*self.confirmed, key})

    def add_unconfirmed(self, key: Key) -> None:
        """A candidate with this key was not seen again."""
        times = Counter({(one.clause, one.cause): one.times for one in self.unconfirmed})
        times[key] += 1
        self.unconfirmed = [Unconfirmed(*key, n) for key, n in sorted(times.items())]

    def go_on(self, seconds: float) -> None:
        """Add the time of some more search."""
        self.seconds += seconds

    @property
    def shards(self) -> int:
        """How many shards are done."""
        return sum(end - start for start, end in self.done)

    def has(self, number: int) -> bool:
        """Whether a shard of the campaign is one of this part's, and done."""
        index, rest = divmod(number, self.part.of)
        return rest == self.part.number and any(start <= index < end for start, end in self.done)


Change = Callable[[State], None]
"""What a search does to its state. It changes nothing where the shard or the finding is in it already."""
