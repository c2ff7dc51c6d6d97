"""Simpler calls in the same world: fewer segments, plainer ones, and faults that come sooner."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from msgspec.structs import replace

from vfio_verify.generate.sweep import MMAP_ERRNOS, OTHER_ERRNOS
from vfio_verify.trial.reduce_world import lower, put_at, subsets, unit_of, with_iovec, with_room
from vfio_verify.values.case import Case, Fault, Segment
from vfio_verify.values.observation import STEPS

_FEW = 6
"""In lists of up to so many segments, every two are swapped, and tried alike."""
_MOST_JOINED = 24
"""In lists of up to so many segments, neighbours are joined."""


# ---- segments -----------------------------------------------------------------------------------------------


def fewer_segments(case: Case) -> Iterator[Case]:
    for kept in subsets(case.iovec):
        smaller = with_iovec(case, kept)
        yield smaller
        yield from sooner_faults(smaller, len(case.iovec) - len(kept))


def alike_segments(case: Case) -> Iterator[Case]:
    """All segments are like one of them, or like a page of it; all begin with their block, or nearer to it."""
    iovec, unit = case.iovec, unit_of(case)
    if not iovec:
        return
    for one in dict.fromkeys((iovec[0], iovec[-1])):
        for like in (Segment(one.block, 0, unit), replace(one, length=unit), one):
            yield with_iovec(case, (like,) * len(iovec))
    yield with_iovec(case, tuple(replace(s, offset=s.offset % unit) for s in iovec))
    yield with_iovec(case, tuple(replace(s, length=s.length % unit or unit) for s in iovec))
    lowest = min(s.offset for s in iovec) // unit * unit
    yield replace(case, iovec=tuple(replace(s, offset=s.offset - lowest) for s in iovec))
    if len(iovec) <= _FEW:
        for i, j in itertools.combinations(range(len(iovec)), 2):
            yield with_iovec(case, put_at(iovec, j, iovec[i]))


def joined_segments(case: Case) -> Iterator[Case]:
    """One segment takes the place of two neighbours and is as long as both."""
    if len(case.iovec) <= _MOST_JOINED:
        for i, (one, other) in enumerate(itertools.pairwise(case.iovec)):
            for offset in dict.fromkeys((one.offset, other.offset)):
                joined = Segment(one.block, offset, min(one.length + other.length, (1 << 64) - 1))
                shorter = with_iovec(case, (*case.iovec[:i], joined, *case.iovec[i + 2 :]))
                yield shorter
                yield with_room(shorter, joined)


def simpler_segments(case: Case) -> Iterator[Case]:
    """One segment becomes shorter, nearer to its block's start, in an earlier block, or less odd."""
    for i, segment in enumerate(case.iovec):
        for simpler in _segment_candidates(case, segment):
            iovec = put_at(case.iovec, i, simpler)
            yield with_iovec(case, iovec)
            yield replace(case, iovec=iovec)


def _segment_candidates(case: Case, segment: Segment) -> Iterator[Segment]:
    unit = unit_of(case)
    length, offset = segment.length, segment.offset
    for shorter in lower(length, unit, 2 * unit):
        if shorter:
            yield replace(segment, length=shorter)
    if length >> 63:
        for less in lower((1 << 64) - length, unit):
            if less:
                yield replace(segment, length=(1 << 64) - less)
    for nearer in lower(offset, unit):
        yield replace(segment, offset=nearer)
        yield Segment(segment.block, nearer, length + offset - nearer)
        if length > unit:
            yield Segment(segment.block, nearer, unit)
    if length % unit:
        for odd in (length - length % unit + 1, 1, unit - 1, length - length % unit):
            if 0 < odd < length:
                yield replace(segment, length=odd)
        yield replace(segment, length=length - length % unit + unit)
    if offset % unit:
        yield replace(segment, offset=offset - offset % unit + 1)
    for block in range(segment.block or 0):
        yield replace(segment, block=block)


def swapped_segments(case: Case) -> Iterator[Case]:
    """Two segments change places. Where neither has whole pages, both become half a page."""
    iovec, unit = case.iovec, unit_of(case)
    if len(iovec) > _FEW:
        return
    for i, j in itertools.combinations(range(len(iovec)), 2):
        yield replace(case, iovec=put_at(put_at(iovec, i, iovec[j]), j, iovec[i]))
        one, other = iovec[i], iovec[j]
        if one.length % unit and other.length % unit:
            half = put_at(iovec, i, replace(one, length=unit // 2))
            yield with_iovec(case, put_at(half, j, replace(other, length=unit // 2)))


def evened_segments(case: Case) -> Iterator[Case]:
    """Pages pass from a longer segment to a shorter one."""
    unit = unit_of(case)
    if len(case.iovec) > _FEW:
        return
    for i, j in itertools.permutations(range(len(case.iovec)), 2):
        longer, shorter = case.iovec[i], case.iovec[j]
        for left in lower(longer.length, unit):
            other = replace(shorter, length=shorter.length + longer.length - left)
            if left and other.length < longer.length:
                even = with_iovec(case, put_at(put_at(case.iovec, i, replace(longer, length=left)), j, other))
                yield with_room(even, other)


def simpler_total(case: Case) -> Iterator[Case]:
    """The total becomes right, or is off by less."""
    total, unit = sum(s.length for s in case.iovec), unit_of(case)
    off_by = case.total_size - total
    sign = 1 if off_by > 0 else -1
    for by in dict.fromkeys((0, unit, -unit, 1, -1, *(sign * less for less in lower(abs(off_by), unit)))):
        if 0 <= total + by < 1 << 64:
            yield replace(case, total_size=total + by)


# ---- faults -------------------------------------------------------------------------------------------------


def fewer_faults(case: Case) -> Iterator[Case]:
    for kept in subsets(case.fault_plan):
        yield replace(case, fault_plan=kept)
    if case.kernel_fault is not None:
        yield replace(case, kernel_fault=None)


def sooner_faults(case: Case, removed: int = 1) -> Iterator[Case]:
    """A fault comes sooner: with fewer segments, the step that failed has another number."""
    count = len(case.iovec)
    for i, fault in enumerate(case.fault_plan):
        for nth in {1, 2, max(1, fault.nth - removed), max(1, count), count + 1} - {fault.nth}:
            yield replace(case, fault_plan=put_at(case.fault_plan, i, replace(fault, nth=nth)))
    if (kernel := case.kernel_fault) is not None:
        for at in sorted({0, 1, 2, max(0, kernel.at - removed), count + 1}):
            if at < kernel.at:
                yield replace(case, kernel_fault=replace(kernel, at=at))


def simpler_faults(case: Case) -> Iterator[Case]:
    """One fault becomes early or transient, has a plainer errno, or hits another step."""
    yield from sooner_faults(case)
    for i, fault in enumerate(case.fault_plan):
        for simpler in _fault_candidates(case, fault):
            yield replace(case, fault_plan=put_at(case.fault_plan, i, simpler))


def _fault_candidates(case: Case, fault: Fault) -> Iterator[Fault]:
    yield replace(fault, when="early")
    yield replace(fault, persistent=False)
    for nth in lower(fault.nth):
        if nth:
            yield replace(fault, nth=nth)
    errnos = MMAP_ERRNOS if fault.step == "mmap" else OTHER_ERRNOS.get(fault.step, ())
    for errno in ("EINVAL", *sorted(errnos)):
        if errno == fault.errno:
            break
        yield replace(fault, errno=errno)
    for step in STEPS[: STEPS.index(fault.step)]:
        for nth in range(1, min(len(case.iovec), 2) + 2):
            yield Fault(step, nth)
