"""A run, with what the judges of several clauses ask of it worked out once."""

from __future__ import annotations

import errno
from collections.abc import Callable

from msgspec import Struct

from vfio_verify.case import Case
from vfio_verify.model import Expectation
from vfio_verify.observation import BY_KERNEL, FAULTED, STEPS, UNPLANNED, Event, Observation

MMAP, MUNMAP, MPROTECT, MREMAP, DUP, CLOSE, OTHER_CALL = range(7)

_MUST_SUCCEED = {
    number
    for number, step in enumerate(STEPS)
    if step in ("mmap", "mremap", "find_device", "find_block", "find_index", "find_region", "region_info", "region_fd")
}
"""Steps whose failure the caller must hear of. The rest are cleanup, or are seen by their results."""


class Finding(Struct, frozen=True):
    """What one clause has to say of a run: a sentence, and the two sides of the comparison."""

    summary: str
    expected: str
    seen: str
    cause: str = ""


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
        if not self.seen.flags_union & flag:
            return []
        return [i for i, flags in enumerate(self.seen.column("flags")) if flags & flag]

    def events(self, flag: int) -> list[Event]:
        """The events that carry a flag."""
        return [self.seen.event(i) for i in self._flagged(flag)]

    def took(self, *steps: int) -> bool:
        """Did the subject take a step of these kinds?"""
        return bool(self.seen.counts) and any(self.seen.counts[step] for step in steps)

    @property
    def unmap_failed(self) -> bool:
        """Did an unmapping fail by plan, or for want of memory? What it was to remove may stay."""
        return any(
            e.step == MUNMAP and (e.flags & FAULTED or e.errno == errno.ENOMEM)
            for e in self.events(FAULTED | UNPLANNED)
        )

    @property
    def starved(self) -> bool:
        """Did the kernel refuse for want of memory what the subject could rightly ask for?"""
        return any(
            e.step == MMAP and e.errno in (errno.ENOMEM, errno.EAGAIN) and e.a1 <= 2 * self.length + (4 << 20)
            for e in self.events(UNPLANNED)
        )

    @property
    def completed(self) -> bool:
        return self.seen.death is None

    @property
    def rightly_mapped(self) -> bool:
        """Mapped, and the spec allows it: then the mapping itself can be judged."""
        return self.completed and self.seen.mapped and self.expected.may_map

    def unanswered_faults(self) -> list[Event]:
        """Failed steps that mattered and were not done again with success."""
        unanswered = []
        for i in self.failed_steps:
            event = self.seen.event(i)
            later = (e for e in map(self.seen.event, range(i + 1, self.seen.n_events)))
            if event.step in _MUST_SUCCEED and not any(_same_step(event, e) for e in later):
                unanswered.append(event)
        return unanswered


def _same_step(failed: Event, event: Event) -> bool:
    if event.step != failed.step or event.errno:
        return False
    return event[2:4] == failed[2:4]  # the same address and length, or the same thing looked up


ClauseJudge = Callable[[Facts], "list[Finding] | None"]
"""None: the run did not exercise the clause. Else what violates it, which may be nothing."""
