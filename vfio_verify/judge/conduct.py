"""What a call must do and leave on its way: UNMAP_ON_ERROR, CONFINED, NO_WINDOW, NO_LEAK."""

from __future__ import annotations

from collections.abc import Iterator

from vfio_verify.judge.facts import (
    CLOSE,
    DUP,
    MMAP,
    MPROTECT,
    MREMAP,
    MUNMAP,
    OTHER_CALL,
    ClauseJudge,
    Facts,
    Finding,
    maps_before_it_unmaps,
    without,
)
from vfio_verify.values.cause import SUCCESS, of_kind
from vfio_verify.values.observation import (
    FAULTED,
    LEFT_CHILD,
    LEFT_THREAD,
    LEFT_TIMER,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    OUTSIDE,
    OWNED,
    REFUSED,
    STEPS,
    UNPLANNED,
    Event,
)
from vfio_verify.values.words import call_text, place

_SHOWN = 8
"""Ranges named in a sentence."""


def _unmap_on_error(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    extra = seen.pages_after - seen.pages_before
    if not facts.completed or seen.mapped or not (facts.took(MMAP, MREMAP) or extra):
        return None
    strays, excused = facts.left
    expected = "nothing of the subject's mapped after it failed"
    if excused is None or excused:
        expected += ", but for what an unmapping that failed was to remove"
    if strays:
        where = ", ".join(f"[{place(run.start)}, {place(run.end)})" for run in strays[:_SHOWN])
        return [Finding("a failed call leaves pages mapped", expected, f"still mapped: {where}", _how_left(facts))]
    if excused is not None and extra != excused:
        extra -= excused
        summary = f"a failed call leaves the process with {extra:+} pages"
        return [Finding(summary, expected, f"{extra:+} pages", "count")]
    return []


def _how_left(facts: Facts) -> str:
    """By a cleanup that does not reach everything, or by a way out that has none."""
    if not facts.took(MUNMAP):
        return of_kind("kept", facts.way_out)
    failed = any(e.step == MUNMAP for e in facts.events(FAULTED | UNPLANNED))
    return "a failed munmap" if failed else "in part"


def _confined(facts: Facts) -> list[Finding] | None:
    if not facts.took(MMAP, MUNMAP, MPROTECT, MREMAP, OTHER_CALL) and not facts.seen.harness_changes:
        return None
    expected = "only addresses inside the reservation that it made and still holds"
    findings = []
    for event, lies in _outside(facts):
        step, text = STEPS[event.step], call_text(event, facts.case, facts.seen)
        summary = f"{step} outside the subject's own reservation: {lies}"
        findings.append(Finding(summary, expected, text, of_kind(step, lies)))
    if n := facts.seen.harness_changes:
        changed = f"{n} mapping{'s' * (n != 1)} that {'are' if n > 1 else 'is'} not the subject's changed"
        findings.append(Finding("changes mappings by system calls of its own", expected, changed, "unseen"))
    return findings


def _outside(facts: Facts) -> Iterator[tuple[Event, str]]:
    """The first call of each kind that touches what the subject does not hold, and how that lies to what it holds."""
    outside = [event for event in facts.events(OUTSIDE) if _touches(event)]
    if not outside:
        return
    held, freed, told = list[tuple[int, int]](), list[tuple[int, int]](), set[tuple[int, str]]()
    for event in facts.seen.trace():
        start, end = event.a0, event.a0 + max(1, facts.round_up(event.a1))
        if event.flags & OUTSIDE and _touches(event):
            lies = _lies(held, freed, start, end)
            if (event.step, lies) not in told:
                told.add((event.step, lies))
                yield event, lies
        elif event.errno:
            continue
        elif event.step == MMAP and not event.a3 & MAP_FIXED:
            held.append((event.result, event.result + facts.round_up(event.a1)))
        elif event.step == MUNMAP and not event.flags & REFUSED:
            held = list(without(held, start, end))
            freed.append((start, end))


def _lies(held: list[tuple[int, int]], freed: list[tuple[int, int]], start: int, end: int) -> str:
    if _meets(held, start, end):
        return "past its end" if any(s <= start for s, _ in held) else "before it"
    if _meets(freed, start, end):
        return "unmapped before"
    if any(start == e for _, e in held):
        return "past its end"
    if not held:
        return "there is none"
    return "elsewhere"


def _touches(event: Event) -> bool:
    if event.step == MMAP:
        return not event.a3 & MAP_FIXED_NOREPLACE
    return event.step in (MUNMAP, MPROTECT, MREMAP, OTHER_CALL)


def _no_window(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.took(MMAP):
        return None
    if not facts.took(MUNMAP, MREMAP) or (not facts.rightly_mapped and maps_before_it_unmaps(facts.seen)):
        return []
    freed: list[tuple[int, int]] = []
    expected = "what is reserved stays reserved until it is overlaid"
    steps = facts.seen.column("step")
    # A trace too long to be kept whole may lack them.
    first = min((steps.index(step) for step in (MUNMAP, MREMAP) if step in steps), default=len(steps))
    for event in map(facts.seen.event, range(first, len(steps))):
        if event.errno:
            continue
        if event.step == MMAP:
            start, end = event.result, event.result + facts.round_up(event.a1)
            asked_for = event.a0 == event.result and event.a0
            if asked_for and _meets(freed, start, end):
                text = call_text(event, facts.case, facts.seen)
                return [Finding("the subject frees part of the range and maps there again", expected, text, "again")]
            freed = list(without(freed, start, end))
        elif event.step in (MUNMAP, MREMAP) and event.flags & OWNED:
            freed.append((event.a0, event.a0 + facts.round_up(event.a1)))
            if event.step == MREMAP:
                freed = list(without(freed, event.result, event.result + facts.round_up(event.a2)))
    if facts.rightly_mapped and freed:
        base = facts.seen.base
        for run in facts.seen.runs:
            freed = list(without(freed, base + run.start, base + run.end))
        if _meets(freed, facts.seen.address, facts.seen.address + facts.length):
            summary = "the subject frees part of the range that it returns"
            return [Finding(summary, expected, "an unmapped part", "returned")]
    return []


def _meets(ranges: list[tuple[int, int]], start: int, end: int) -> bool:
    return any(start < e and s < end for s, e in ranges)


_LEFT = (
    (LEFT_THREAD, "a thread that still runs", "thread"),
    (LEFT_CHILD, "a child process", "child"),
    (LEFT_TIMER, "an armed timer", "timer"),
)


def _no_leak(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    if not facts.completed:
        return None
    findings = []
    if seen.fds_left:
        stay = "a descriptor stays open" if seen.fds_left == 1 else f"{seen.fds_left} descriptors stay open"
        cause = of_kind("descriptor", _way(facts))
        findings.append(Finding(stay, "none that was not open before", f"{seen.fds_left} more", cause))
    if seen.fds_gone:
        summary = "a descriptor that is not the subject's is gone"
        findings.append(Finding(summary, "all that were open before", f"{seen.fds_gone} fewer", "gone"))
    if seen.heap_live:
        blocks = f"{seen.heap_live} heap block{'s' * (seen.heap_live != 1)} not freed"
        cause = of_kind("heap", _way(facts))
        findings.append(Finding(blocks, "every allocation freed", f"{seen.heap_live_bytes} bytes", cause))
    if seen.cached_frees:
        times = f"{seen.cached_frees} time{'s' * (seen.cached_frees != 1)}"
        findings.append(Finding("cached region information is freed", "the cache keeps it", times, "cache"))
    findings += _unbalanced(facts)
    for bit, what, cause in _LEFT:
        if seen.left & bit:
            findings.append(Finding(f"{what} stays behind", "none when the call returns", what, cause))
    return [*findings, *_closed(facts)]


def _way(facts: Facts) -> str:
    return SUCCESS if facts.seen.mapped else facts.way_out


def _closed(facts: Facts) -> Iterator[Finding]:
    """Closes of what is not the subject's. What it has closed already is not its own any more: another thread may have
    the number by then."""
    for event in facts.events(OUTSIDE):
        if event.step not in (CLOSE, DUP):
            continue
        text = call_text(event, facts.case, facts.seen)
        if event.step == DUP:
            yield Finding("dup2 closes a descriptor that the subject did not open", "left open", text, "close")
        elif event.flags & REFUSED:
            yield Finding("a descriptor is closed that the subject did not open", "left open", text, "close")
        else:
            yield Finding("a descriptor is closed that is not open", "closed once", text, "twice")


def _unbalanced(facts: Facts) -> list[Finding]:
    """References of QEMU's objects, and RCU's read lock."""
    seen = facts.seen
    findings = []
    if seen.references_kept:
        kept = f"{seen.references_kept} reference{'s' * (seen.references_kept != 1)}"
        summary, expected = "a reference to a QEMU object is kept", "each one that was taken is dropped"
        findings.append(Finding(summary, expected, kept, "reference kept"))
    if seen.references_dropped:
        dropped = f"{seen.references_dropped} more than it took"
        summary = "a reference to a QEMU object is dropped that the subject did not take"
        findings.append(Finding(summary, "left to whose it is", dropped, "reference dropped"))
    if seen.read_locks:
        kept = f"{seen.read_locks} kept"
        findings.append(Finding("an RCU read lock is kept", "rcu_read_unlock()", kept, "read lock"))
    return findings


CLAUSES: dict[str, ClauseJudge] = {
    "UNMAP_ON_ERROR": _unmap_on_error,
    "CONFINED": _confined,
    "NO_WINDOW": _no_window,
    "NO_LEAK": _no_leak,
}
