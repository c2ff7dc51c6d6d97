"""An observation: everything that was seen of one run of a subject. A value, free of this process's state."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct as Format
from typing import NamedTuple, get_args

from msgspec import Struct

from vfio_verify.values.case import Step

READ, WRITE, EXEC, SHARED = 1, 2, 4, 8
RAM, OTHER, ANONYMOUS = 15, 100, 101
"""What stands behind a run of pages: `RAM` is plain RAM blocks; backing.py has the files of devices."""

FAULTED, TOOK_AWAY, REFUSED, OUTSIDE, OWNED, BY_RULE, NESTED, UNPLANNED, STARVED, BY_KERNEL = (
    1 << bit for bit in range(10)
)
OPEN = 1 << 16
"""Flags of an event; ``enum vv_event_flags`` in pyx/world/base/base.h says what each means."""

LEFT_OPEN = 1024
"""A flag of a second call as a whole: it left a descriptor open, or closed one that is not its own."""

LEFT_THREAD, LEFT_CHILD, LEFT_TIMER = 1, 2, 4
"""``enum vv_left`` in pyx/world/observe/observe.h."""

STEPS: tuple[Step, ...] = get_args(Step)

NOWHERE = (1 << 64) - 1
"""Stands for a place that is not known, or is the core's."""
NOTHING = (1 << 64) - 1
"""What a look-up found, if it found nothing."""

MAP_FIXED, MAP_NORESERVE, MAP_FIXED_NOREPLACE = 0x10, 0x4000, 0x100000
"""Flags of mmap(2) that Python's mmap lacks."""


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
    caller: int = NOWHERE
    """The place in the subject that made the call: an address in its library, or `NOWHERE`."""


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


MAX_STRAYS = 64
"""More are not listed; pyx/world/run/run.h has the same limit."""

UNEQUAL, DEVICE_UNSEEN, GUEST_UNSEEN, UNREADABLE, STILL_READABLE = 1, 2, 3, 4, 5


ERROR_SET_TWICE, ASSERTION = "error set twice", "assertion"
DEATH_CODES = {1: ERROR_SET_TWICE, 2: ASSERTION}
"""For what the world itself ends a process, where a judge asks for it: ``enum vv_death`` in pyx/world/base/base.h."""


class Death(Struct, frozen=True):
    """How the process of a subject ended in the middle of a call.

    `how` is "signal", "exit", "hang", "stop", "excess" (of memory or threads), "abort" (by the Error API, an assertion,
    exit() and the like), or "damage": the process could not answer any more, or not truly. `note` says more: an
    abort's text, a signal's place, what was damaged.
    """

    how: str
    signal: int = 0
    status: int = 0
    note: str = ""
    frames: tuple[int, ...] = ()
    """Places in the subject's code, the innermost first, as far as they could be told."""
    error_at: tuple[int, ...] = ()
    """Where the subject had set errors before."""
    code: str = ""
    """One of `DEATH_CODES`, or nothing."""

    @property
    def is_slow(self) -> bool:
        """Whether it takes seconds to tell: a stopped process is waited for as long as one that hangs, and one that
        takes too much memory needs time to fill it and to give it back."""
        return self.how in ("hang", "stop", "excess")


class SecondCall(Struct, frozen=True):
    """The same call made again while the first mapping lives, and then ended."""

    mapped: bool
    like_first: bool
    differences: int
    first_whole: bool
    first_differences: int
    starved: bool = False
    """The kernel refused it memory. A machine may have room for one mapping and not for two."""
    left_open: bool = False
    """It left a descriptor open, or closed one that is not its own."""


class MappingSeen(Struct, frozen=True):
    """A mapping that a call of a sequence returned and nobody ended, as it is after a step. `call` counts from 0."""

    call: int
    address: int
    runs: tuple[Run, ...]
    differences: tuple[Difference, ...] = ()
    pages_compared: int = 0
    pages_total: int = 0


class StepSeen(Struct, frozen=True):
    """A step of a sequence, and the address space after it. The steps begin with the case's own call."""

    call: Observation | None = None
    """What a call answered. None: the step was none."""
    done: bool = True
    """Not done: there was nothing to end, or the process may not fork."""
    errno: int = 0
    left: int = 0
    """Runs of pages where a mapping was ended."""
    child: int | None = None
    """The call whose mapping a forked child saw otherwise."""
    pages: int = 0
    """The pages of the whole process."""
    mappings: tuple[MappingSeen, ...] = ()


class Taken(Struct, frozen=True):
    """Part of the reservation [start, end) of a thread's call was free: a hole at an address, or what another thread
    got by mmap there. `order` is that of the step before it."""

    thread: int
    start: int
    end: int
    at: int
    length: int
    order: int


class Threads(Struct, frozen=True):
    """Concurrent calls: what was seen of each in the last round, and in the control before, where they were made one
    after the other. `round` is the first that differed from the control, or None. Threads count from 0."""

    rounds: int
    round: int | None
    policy: int
    """How the threads took turns; ``enum vv_policy`` in pyx/world/threads/crew.h."""
    dead: int | None
    """The thread that ended the process."""
    hole: Taken | None
    grab: Taken | None
    clobbered: int
    """Pages of another thread that a call overwrote."""
    steps: tuple[tuple[int, int, Event], ...]
    """The steps of all threads in the last round: place in the order, thread, event."""
    bases: tuple[int, ...]
    """Each call's first reservation's address; 0 where it made none."""
    calls: tuple[Observation, ...] = ()
    control: tuple[Observation, ...] = ()


class Observation(Struct, frozen=True):
    """One run. Page counts are of the whole process; runs and strays are relative to `base`."""

    mapped: bool
    error_given: bool = False
    error_left: bool = False
    message: bytes = b""
    events: bytes = b""
    runs: tuple[Run, ...] = ()
    strays: tuple[Run, ...] = ()
    differences: tuple[Difference, ...] = ()
    counts: tuple[int, ...] = ()
    second: SecondCall | None = None
    error_at: tuple[int, ...] = ()
    """The places in the subject that set the first two errors that reached the caller."""
    block_hosts: tuple[int, ...] = ()
    device_fds: tuple[int, ...] = ()
    """The descriptors of devices and of files of regions, whether the case has them or not, and last that of plain
    RAM."""
    harness_changes: int = 0
    """Mappings of the harness that differed after the request in which this run was."""
    address: int = 0
    base: int = 0
    error_sets: int = 0
    pages_before: int = 0
    pages_after: int = 0
    pages_end: int = 0
    heap_live: int = 0
    heap_live_bytes: int = 0
    cached_frees: int = 0
    bad_frees: int = 0
    events_dropped: int = 0
    pages_compared: int = 0
    pages_total: int = 0
    flags_union: int = 0
    left: int = 0
    """What the call left behind in its process: `LEFT_THREAD`, `LEFT_CHILD`, `LEFT_TIMER`."""
    heap_at: int = NOWHERE
    """The place that allocated the first block that is not freed."""
    free_at: int = NOWHERE
    """The place that freed first what was not to be freed."""
    fds_left: int = 0
    """Descriptors that are open after the call, and were not before, whoever opened them."""
    fds_gone: int = 0
    """Descriptors of the process, not of a call, that are not open any more."""
    references_kept: int = 0
    """References to objects of QEMU's that were taken and not dropped."""
    references_dropped: int = 0
    """References that were dropped, though the call had not taken them."""
    read_locks: int = 0
    """RCU read locks that were not given back."""
    reference_at: int = NOWHERE
    """The place that took the first reference that was kept, or dropped the first that was not the call's."""
    steps: tuple[StepSeen, ...] = ()
    """For a case with a sequence: this call, and what was done after it."""
    death: Death | None = None
    threads: Threads | None = None
    """For a case with concurrent calls; the case's own call is among them."""
    named: tuple[tuple[str, int, int], ...] = ()
    """Names for ranges of addresses, beside that of the mapping: name, start, end."""

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


EVENT = Format("=11Q")
