"""An observation: everything that was seen of one run of a subject. A value, free of this process's state."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Format
from typing import NamedTuple

from msgspec import Struct

from vfio_verify.case import Step

READ, WRITE, EXEC, SHARED = 1, 2, 4, 8
RAM, OTHER, ANONYMOUS = 15, 100, 101
"""What stands behind a run of pages: below `RAM` a device's position in the case; `RAM`: plain RAM blocks."""

FAULTED, TOOK_AWAY, REFUSED, OUTSIDE, OWNED, BY_RULE, NESTED, UNPLANNED, STARVED, BY_KERNEL = (
    *(1, 2, 4, 8),
    *(16, 32, 64, 128, 256),
    512,
)
"""Flags of an event; ``enum vv_event_flags`` in pyx/world/world.h says what each means."""

STEPS: tuple[Step, ...] = Step.__args__  # type: ignore[attr-defined]  # a Literal has them


class Event(NamedTuple):
    """One call or look-up of the subject, as it was asked for and answered. Addresses are absolute."""

    step: int
    flags: int
    a0: int
    a1: int
    a2: int
    a3: int
    a4: int
    a5: int
    result: int
    errno: int


class Run(NamedTuple):
    """Pages with one backing: bytes [start, end) from the mapping's address, access, memory and offset in its file."""

    start: int
    end: int
    flags: int
    memory: int
    offset: int


class Difference(NamedTuple):
    """A word that did not read as it should: in which segment, at which byte of it."""

    kind: int
    segment: int
    offset: int
    expected: int
    seen: int


UNEQUAL, DEVICE_UNSEEN, GUEST_UNSEEN, UNREADABLE, STILL_READABLE = 1, 2, 3, 4, 5


class Death(Struct, frozen=True):
    """How the process of a subject ended in the middle of a call.

    `how` is "signal", "exit", "hang" or "abort" (by the Error API, an assertion, exit() and the like). `note` says
    more: an abort's text, a signal's place.
    """

    how: str
    signal: int = 0
    status: int = 0
    note: str = ""


class SecondCall(Struct, frozen=True):
    """The same call made again while the first mapping lives, and then ended."""

    mapped: bool
    like_first: bool
    differences: int
    first_whole: bool
    first_differences: int
    starved: bool = False
    """Did the kernel refuse it memory? A machine may have room for one mapping and not for two."""


class Observation(Struct, frozen=True):
    """One run. Page counts are of the whole process; runs and strays are relative to `base`."""

    mapped: bool
    address: int = 0
    base: int = 0
    error_given: bool = False
    error_left: bool = False
    error_sets: int = 0
    message: bytes = b""
    pages_before: int = 0
    pages_after: int = 0
    pages_end: int = 0
    lowest_fd_before: int = 0
    lowest_fd_after: int = 0
    heap_live: int = 0
    heap_live_bytes: int = 0
    cached_frees: int = 0
    bad_frees: int = 0
    events: bytes = b""
    events_dropped: int = 0
    runs: tuple[Run, ...] = ()
    strays: tuple[Run, ...] = ()
    differences: tuple[Difference, ...] = ()
    pages_compared: int = 0
    pages_total: int = 0
    flags_union: int = 0
    counts: tuple[int, ...] = ()
    second: SecondCall | None = None
    death: Death | None = None
    block_hosts: tuple[int, ...] = ()
    device_fds: tuple[int, ...] = ()
    """Of the devices, whether the case has them or not, and last of plain RAM."""
    harness_changes: int = 0
    """Mappings of the harness that differed after the request in which this run was."""

    def trace(self) -> Iterator[Event]:
        """The events in order."""
        return map(Event._make, EVENT.iter_unpack(self.events))

    @property
    def n_events(self) -> int:
        """How many events the trace holds."""
        return len(self.events) // EVENT.size

    def column(self, field: str) -> list[int]:
        """One field of every event, without making the events."""
        return memoryview(self.events).cast("Q")[Event._fields.index(field) :: len(Event._fields)].tolist()

    def event(self, number: int) -> Event:
        """One event."""
        return Event._make(EVENT.unpack_from(self.events, number * EVENT.size))

    def count(self, step: Step) -> int:
        """How often the subject took a step of this kind."""
        return self.counts[STEPS.index(step)]


EVENT = Format("=10Q")
