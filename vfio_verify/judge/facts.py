"""A run, with what the judges of several clauses ask of it worked out once."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from msgspec import Struct

from vfio_verify.judge.relations import MAX_PIECES, Piece, Segments, meetings, wrong_pieces
from vfio_verify.values.case import PAGE, Case
from vfio_verify.values.cause import UNTOLD, at
from vfio_verify.values.model import Expectation
from vfio_verify.values.observation import (
    BY_KERNEL,
    FAULTED,
    MAX_STRAYS,
    NOWHERE,
    OWNED,
    READ,
    SHARED,
    STEPS,
    UNPLANNED,
    Event,
    Observation,
    Run,
)

MMAP, MUNMAP, MPROTECT, MREMAP, DUP, CLOSE, OTHER_CALL = range(7)


class Finding(Struct, frozen=True):
    """What one clause has to say of a run: a sentence, and the two sides of the comparison."""

    summary: str
    expected: str
    seen: str
    cause: str = ""
    where: int = NOWHERE
    """The place in the subject that made the step at fault, where there is one."""
    position: int | None = None
    """The first byte of the mapping that is wrong, where that is known."""


class Left(NamedTuple):
    """Pages that the subject mapped outside of what it returned: those that nothing excuses, and how many are excused;
    None if that is not known."""

    strays: tuple[Run, ...]
    excused_pages: int | None


class Facts:
    """A run, with what several clauses ask of it worked out once.

    A trace can have thousands of events, and nearly all are of no interest: they are told apart by whole columns,
    and by the union of all flags, before any is looked at.
    """

    def __init__(self, case: Case, expected: Expectation, seen: Observation, has_errp: bool) -> None:
        self.case, self.expected, self.seen, self.has_errp = case, expected, seen, has_errp
        self.page = case.page_size
        self.length = self.round_up(expected.total_size)
        self.failed_steps = self._flagged(FAULTED | BY_KERNEL)

    def round_up(self, length: int) -> int:
        """To whole pages, as mmap(2) and munmap(2) do."""
        return -(-length // self.page) * self.page

    def _flagged(self, flag: int) -> list[int]:
        """Which events carry a flag."""
        return [i for i, flags in self._marked if flags & flag] if self.seen.flags_union & flag else []

    @cached_property
    def _marked(self) -> list[tuple[int, int]]:
        """Which events carry any flag but that they are inside what the subject holds, and their flags."""
        return [(i, flags) for i, flags in enumerate(self.seen.column("flags")) if flags & ~OWNED]

    def events(self, flag: int) -> list[Event]:
        """The events that carry a flag."""
        return [self.seen.event(i) for i in self._flagged(flag)]

    def took(self, *steps: int) -> bool:
        """Whether the subject took a step of one of these kinds."""
        return bool(self.seen.counts) and any(self.seen.counts[step] for step in steps)

    @cached_property
    def left(self) -> Left:
        """What the subject left outside of what it returned. An unmapping that failed, by plan or for want of memory,
        excuses what it was to remove."""
        failed = [
            (e.a0, e.a0 + self.round_up(e.a1))
            for e in self.events(FAULTED | UNPLANNED)
            if e.step == MUNMAP and (e.flags & FAULTED or e.errno == errno.ENOMEM)
        ]
        if not failed:
            return Left(self.seen.strays, 0)
        base, strays = self.seen.base, list[Run]()
        for run in self.seen.strays:
            rest = [(base + run.start, base + run.end)]
            for start, end in failed:
                rest = list(without(rest, start, end))
            strays += [Run(start - base, end - base, *run[2:]) for start, end in rest]
        listed = sum(run.end - run.start for run in self.seen.strays)
        excused = listed - sum(run.end - run.start for run in strays)
        # Where more was left than is listed, its pages cannot be told apart.
        all_listed = len(self.seen.strays) < MAX_STRAYS
        return Left(tuple(strays), excused // PAGE if all_listed else None)

    @property
    def starved(self) -> bool:
        """Whether the kernel lacked the memory for what the subject could rightly ask for."""
        return any(
            e.step == MMAP and e.errno in (errno.ENOMEM, errno.EAGAIN) and e.a1 <= 2 * self.length + (4 << 20)
            for e in self.events(UNPLANNED)
        )

    @cached_property
    def segments(self) -> Segments:
        """Where the segments lie in what must be mapped."""
        return Segments(self.case, self.expected.overlays)

    @cached_property
    def wrong_pieces(self) -> list[Piece]:
        """The pages that show other memory than their segment's."""
        return list(islice(wrong_pieces(self.expected.overlays, self.seen.runs), MAX_PIECES))

    @cached_property
    def way_out(self) -> str:
        """How a failed call left: its message without what differs from case to case, or else the step that failed, or
        the last one. It cannot be told without a place for an error."""
        if self.seen.message.strip():
            return template(self.seen.message.decode(errors="backslashreplace"))
        if self.has_errp and not self.seen.error_given:
            return UNTOLD
        if not self.seen.events:
            return "start"
        last = self.seen.event(self.failed_steps[-1] if self.failed_steps else self.seen.n_events - 1)
        return STEPS[last.step] + ("" if self.has_errp or last.caller == NOWHERE else f" {at(last.caller)}")

    @property
    def completed(self) -> bool:
        return self.seen.death is None

    @property
    def rightly_mapped(self) -> bool:
        """Mapped, and the spec allows it: then the mapping itself can be judged."""
        return self.completed and self.seen.mapped and self.expected.may_map

    @cached_property
    def wrong_pages(self) -> tuple[tuple[int, int], ...]:
        """For a mapping that is allowed: parts of [0, length), from its address, that do not show the segments' memory,
        shared and read-only."""
        right = list[tuple[int, int]]()
        for overlay, run in meetings(self.expected.overlays, self.seen.runs):
            here = run.offset - run.start, run.memory, run.flags
            if here == (overlay.offset - overlay.start, overlay.memory, READ | SHARED):
                right.append((max(run.start, overlay.start), min(run.end, overlay.end)))
        wrong, at = [], 0
        for start, end in (*right, (self.length, self.length)):
            if at < start:
                wrong.append((at, start))
            at = end
        return tuple(wrong)


def maps_before_it_unmaps(seen: Observation) -> bool:
    """Whether nothing is mapped once something was unmapped, so that no part of the range was free in between."""
    if seen.counts[MREMAP] or seen.events_dropped:
        return False
    if not seen.counts[MUNMAP]:
        return True
    steps = seen.column("step")
    # A reply that a subject wrote over may count what its trace does not have.
    return MUNMAP in steps and MMAP not in steps[steps.index(MUNMAP) :]


_VARIABLE = re.compile(r"0x[0-9a-f]+|\(nil\)|[0-9][0-9a-f]*")
_ERRNO_TEXTS = frozenset(os.strerror(number) for number in (0, *errno.errorcode))


def template(message: str) -> str:
    """A message without its numbers, addresses and the errno's text."""
    message = message.strip()
    said, colon, last = message.rpartition(": ")
    is_errno = colon and (last in _ERRNO_TEXTS or last.startswith("Unknown error "))
    return _VARIABLE.sub("#", said if is_errno else message)


def without(ranges: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """What remains of ranges when [start, end) is taken out of them."""
    for s, e in ranges:
        if s < min(e, start):
            yield s, min(e, start)
        if max(s, end) < e:
            yield max(s, end), e


ClauseJudge = Callable[[Facts], "list[Finding] | None"]
"""None: the run did not exercise the clause. Else what violates it, which may be nothing."""
