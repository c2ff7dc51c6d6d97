"""Where in a subject's code a violation is: places as events and frames have them, the likeliest first.

The place is where the code decided: the call that set the error, the step that went astray, the overlay that shows the
wrong memory, the allocation that was not freed. Not every place is one of the subject's own lines; the first that is
will be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.judge.facts import CLOSE, DUP, MMAP, MPROTECT, MREMAP, MUNMAP
from vfio_verify.values.cause import take_apart
from vfio_verify.values.observation import (
    BY_KERNEL,
    FAULTED,
    MAP_FIXED,
    NOWHERE,
    OUTSIDE,
    OWNED,
    UNPLANNED,
    Event,
    Observation,
)

_PLACES_TRIED = 64


def places_of(violation: Violation) -> Iterator[int]:
    """The first candidates, each once, without those that are known to be none."""
    known = (place for place in _candidates(violation) if place != NOWHERE)
    return iter(dict.fromkeys(islice(known, _PLACES_TRIED)))


def _candidates(violation: Violation) -> Iterator[int]:
    seen = violation.observation
    yield violation.where
    if seen.death is not None:
        # What runs in a thread may be found sleeping in the world, whose caller is a frame all the same.
        yield from seen.death.frames
    else:
        yield from _by_clause(violation, seen)
    yield from reversed(seen.error_at)
    yield from _last(seen, _failed)
    yield from (event.caller for event in reversed(trace_of(seen)))


def _by_clause(violation: Violation, seen: Observation) -> Iterator[int]:
    """What the clause is about."""
    match violation.clause:
        case "CONFINED":
            yield from _first(seen, lambda e: bool(e.flags & OUTSIDE) and e.step != CLOSE)
        case "NO_WINDOW":
            yield from _first(seen, lambda e: e.step in (MUNMAP, MREMAP) and bool(e.flags & OWNED) and not e.errno)
        case "NO_LEAK":
            yield from _leaked(violation, seen)
        case "SURVIVES":
            yield seen.free_at
        case "UNCHARGED":
            yield from _first(seen, lambda e: e.step == MMAP and bool(e.flags & UNPLANNED))
            yield from _first(seen, _reserves)
        case "FAULT_REPORTED":
            yield from _first(seen, _failed)
        case (
            "CONTIGUOUS"
            | "CONTENTS"
            | "READ_ONLY"
            | "REPEATABLE"
            | ("SAME_BLOCK" | "SIZE_AGREES" | "WITHIN_BLOCK" | "ALIGNED" | "NOT_EMPTY")
        ):
            yield from _mapped(violation, seen)


def trace_of(seen: Observation) -> list[Event]:
    """The steps of a call; of concurrent calls, those of all threads in their order."""
    if seen.threads is not None:
        return [event for _, _, event in seen.threads.steps]
    return list(seen.trace())


def _first(seen: Observation, wanted: Callable[[Event], bool]) -> Iterator[int]:
    yield from (event.caller for event in trace_of(seen) if wanted(event))


def _last(seen: Observation, wanted: Callable[[Event], bool]) -> Iterator[int]:
    yield from (event.caller for event in reversed(trace_of(seen)) if wanted(event))


def _failed(event: Event) -> bool:
    return bool(event.flags & (FAULTED | BY_KERNEL))


def _overlays(event: Event) -> bool:
    return event.step == MMAP and bool(event.a3 & MAP_FIXED) and not event.errno


def _reserves(event: Event) -> bool:
    return event.step == MMAP and not event.a3 & MAP_FIXED


def _mapped(violation: Violation, seen: Observation) -> Iterator[int]:
    """The overlay of the first page that is wrong, or the last overlay."""
    page = _first_wrong(violation, seen)
    if page is not None:
        at = seen.address + page
        yield from _last(seen, lambda e: e.step == MMAP and not e.errno and e.result <= at < e.result + max(e.a1, 1))
    yield from _last(seen, lambda event: _overlays(event) or event.step in (MREMAP, MPROTECT))
    yield from _first(seen, _reserves)


def _first_wrong(violation: Violation, seen: Observation) -> int | None:
    """The position in the mapping of the first page or word that is wrong."""
    if violation.position is not None:
        return violation.position
    if not seen.differences:
        return None
    worst = seen.differences[0]
    before = sum(segment.length for segment in violation.case.iovec[: worst.segment])
    return before + worst.offset


def _leaked(violation: Violation, seen: Observation) -> Iterator[int]:
    kind = take_apart(key(violation)).kind
    if seen.heap_live and kind == "heap":
        yield seen.heap_at
    if kind == "cache":
        yield seen.free_at
    if kind in ("reference kept", "reference dropped"):
        yield seen.reference_at
    if kind in ("close", "twice"):
        yield from _first(seen, lambda event: event.step in (CLOSE, DUP) and bool(event.flags & OUTSIDE))
    closed = [event.a0 for event in trace_of(seen) if event.step == CLOSE]
    yield from _last(seen, lambda e: e.step == DUP and not e.errno and e.result not in closed)
