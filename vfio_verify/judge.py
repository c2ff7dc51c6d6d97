"""The judge: a case, what was expected of it, and what was observed, in; violations out. Pure.

Each clause of the spec has one function here, registered under its id. It answers None when the run did not
exercise the clause, an empty list when the clause held, or the findings that violate it.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator

from msgspec import Struct

from vfio_verify.case import Case
from vfio_verify.model import Expectation
from vfio_verify.observation import (
    ANONYMOUS,
    EVENT,
    FAULTED,
    OTHER,
    OUTSIDE,
    OWNED,
    READ,
    SHARED,
    STEPS,
    UNEQUAL,
    UNPLANNED,
    UNREADABLE,
    Event,
    Observation,
    Run,
)
from vfio_verify.words import access, call_text, death_text, memory_name, place, stamp_name, step_text

MAP_FIXED = 0x10
MAP_FIXED_NOREPLACE = 0x100000
MMAP, MUNMAP, MPROTECT, MREMAP, DUP, CLOSE, OTHER_CALL = range(7)

_MUST_SUCCEED = {
    number
    for number, step in enumerate(STEPS)
    if step in ("mmap", "mremap", "find_device", "find_block", "find_index", "find_region", "region_info", "region_fd")
}
"""Steps whose failure the caller must hear of. The rest are cleanup, or are seen by their results."""


class Violation(Struct, frozen=True):
    """A clause, the case, and the evidence. `cause` tells different ways of violating one clause apart."""

    clause: str
    cause: str
    summary: str
    case: Case
    observation: Observation
    expected: str
    seen: str


class Verdict(Struct, frozen=True):
    """Which clauses a run exercised, and how it violated some of them."""

    checked: frozenset[str]
    violations: tuple[Violation, ...]


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
        self.length = -(-expected.total_size // self.page) * self.page
        self.failed_steps = self._flagged(FAULTED)

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
        return any(e.step == MUNMAP for e in self.events(FAULTED | UNPLANNED))

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
            later = (e for e in map(self.seen.event, range(i + 1, len(self.seen.events) // EVENT.size)))
            if event.step in _MUST_SUCCEED and not any(_same_step(event, e) for e in later):
                unanswered.append(event)
        return unanswered


def _same_step(failed: Event, event: Event) -> bool:
    if event.step != failed.step or event.errno:
        return False
    return event[2:4] == failed[2:4]  # the same address and length, or the same thing looked up


ClauseJudge = Callable[[Facts], "list[Finding] | None"]
_judges: dict[str, ClauseJudge] = {}


def clause(name: str) -> Callable[[ClauseJudge], ClauseJudge]:
    """Register the function that judges a clause."""

    def register(function: ClauseJudge) -> ClauseJudge:
        _judges[name] = function
        return function

    return register


def judged_clauses() -> frozenset[str]:
    """The ids that have a judge."""
    return frozenset(_judges)


def judge(case: Case, expected: Expectation, seen: Observation, *, has_errp: bool = True) -> Verdict:
    """Hold an observation against the spec. `case` carries the fault plan that was run; without `has_errp` the
    subject's signature has no place for an error."""
    facts = Facts(case, expected, seen, has_errp)
    checked, violations = [], []
    for name, function in _judges.items():
        findings = function(facts)
        if findings is None:
            continue
        checked.append(name)
        first_of_cause = {f.cause: f for f in reversed(findings)}
        violations += [
            Violation(name, f.cause, f.summary, case, seen, f.expected, f.seen)
            for f in findings
            if first_of_cause[f.cause] is f
        ]
    return Verdict(frozenset(checked), tuple(violations))


# ---- the mapping -------------------------------------------------------------------------------------


@clause("CONTIGUOUS")
def _contiguous(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    seen, page = facts.seen, facts.page
    tiled = f"[A, A+{facts.length:#x}) tiled by the segments' overlays, and nothing else mapped"
    if seen.address % page or not seen.address:
        return [Finding("the address is not one of a page", "a page-aligned address A", f"{seen.address:#x}")]
    findings = [Finding(what, tiled, where) for what, where in _untiled(facts)]
    extra = seen.pages_after - seen.pages_before - facts.length // page
    if seen.strays:
        where = ", ".join(f"[{place(run.start)}, {place(run.end)})" for run in seen.strays)
        findings.append(Finding("pages stay mapped outside the mapping", tiled, f"also mapped: {where}"))
    elif extra and not findings:
        more = "more" if extra > 0 else "fewer"
        findings.append(
            Finding(
                f"the process has {abs(extra)} {more} pages mapped than the mapping accounts for",
                tiled,
                f"{extra:+} pages",
            )
        )
    return findings


def _untiled(facts: Facts) -> Iterator[tuple[str, str]]:
    at = 0
    for run in facts.seen.runs:
        if run.start > at:
            yield "there is a hole in the mapping", f"nothing mapped in [{place(at)}, {place(run.start)})"
        where = f"[{place(run.start)}, {place(run.end)})"
        if not run.flags & READ:
            yield "a placeholder page is left in the mapping", f"{where} is not readable"
        elif run.memory in (OTHER, ANONYMOUS):
            yield "part of the mapping is no overlay of the device", f"{where} is anonymous memory"
        at = run.end
    if at < facts.length:
        yield "there is a hole in the mapping", f"nothing mapped in [{place(at)}, {place(facts.length)})"
    yield from _out_of_order(facts)


def _out_of_order(facts: Facts) -> Iterator[tuple[str, str]]:
    """All segments' memory is there, each piece once, but not in its place."""
    overlays = facts.expected.overlays
    wanted = [(overlay.memory, overlay.offset) for overlay in overlays]
    found = [_backing_at(facts.seen.runs, overlay.start) for overlay in overlays]
    if found == wanted or Counter(found) != Counter(wanted):
        return
    first = next(i for i, (f, w) in enumerate(zip(found, wanted, strict=True)) if f != w)
    belongs = next(o for o in overlays if (o.memory, o.offset) == found[first])
    yield (
        "the overlays are not in iovec order",
        f"at {place(overlays[first].start)} there is what belongs at {place(belongs.start)}",
    )


def _backing_at(runs: tuple[Run, ...], position: int) -> tuple[int, int] | None:
    for run in runs:
        if run.start <= position < run.end:
            return run.memory, run.offset + position - run.start
    return None


@clause("CONTENTS")
def _contents(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    return [*_wrong_backing(facts), *_wrong_words(facts)]


def _wrong_backing(facts: Facts) -> Iterator[Finding]:
    for overlay in facts.expected.overlays:
        for run in facts.seen.runs:
            start, end = max(run.start, overlay.start), min(run.end, overlay.end)
            if start >= end or not run.flags & READ:
                continue  # what cannot be read is a hole or a placeholder: CONTIGUOUS
            wanted = overlay.offset + start - overlay.start
            got = run.offset + start - run.start
            if run.memory != overlay.memory or (got != wanted and run.memory < OTHER):
                yield Finding(
                    "a page shows other memory than the segment's",
                    f"at {place(start)}: {memory_name(overlay.memory, wanted)}",
                    f"at {place(start)}: {memory_name(run.memory, got)}",
                )
            elif not run.flags & SHARED:
                yield Finding(
                    "a page is a private copy of the segment's memory",
                    f"at {place(start)}: {memory_name(overlay.memory, wanted)}, shared",
                    f"at {place(start)}: a private mapping of it",
                )


_WHAT = {
    UNEQUAL: "a word differs from the segment's memory",
    2: "a change made by the device does not show",
    3: "a change made through the guest's mapping does not show",
}


def _wrong_words(facts: Facts) -> Iterator[Finding]:
    for d in facts.seen.differences:
        if d.kind == UNREADABLE:
            continue  # the mappings say why: CONTIGUOUS
        yield Finding(
            _WHAT[d.kind],
            f"segment {d.segment}, byte {d.offset:#x}: {stamp_name(d.expected)}",
            f"segment {d.segment}, byte {d.offset:#x}: {stamp_name(d.seen)}",
        )


@clause("READ_ONLY")
def _read_only(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    return [
        Finding(
            "a page's access is not shared and read-only",
            "r--s",
            f"{access(run.flags)} at [{place(run.start)}, {place(run.end)})",
        )
        for run in facts.seen.runs
        if run.flags != READ | SHARED and run.flags & ~SHARED
    ]


# ---- what must be refused, what must be accepted ---------------------------------------------------------


@clause("ACCEPTS_VALID")
def _accepts_valid(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.expected.must_map or facts.failed_steps or facts.starved:
        return None
    if facts.seen.mapped:
        return []
    n = len(facts.case.iovec)
    return [
        Finding(
            "a well-formed layout is refused, and no step failed",
            f"a mapping of {n} segment{'s' * (n != 1)}, {facts.expected.total_size:#x} bytes",
            "failure" + (f": {facts.seen.message.decode(errors='backslashreplace')!r}" if facts.seen.message else ""),
        )
    ]


def _refusing(name: str) -> None:
    @clause(name)
    def refused(facts: Facts) -> list[Finding] | None:
        reasons = [refusal for refusal in facts.expected.refusals if refusal.clause == name]
        if not reasons or not facts.completed:
            return None
        if not facts.seen.mapped:
            return []
        return [Finding(f"mapped, although {reason.reason}", "failure", "success") for reason in reasons]


for _name in ("SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY"):
    _refusing(_name)


# ---- errors ------------------------------------------------------------------------------------------------


@clause("FAULT_REPORTED")
def _fault_reported(facts: Facts) -> list[Finding] | None:
    unanswered = facts.unanswered_faults() if facts.failed_steps and facts.completed else []
    if not unanswered:
        return None
    if not facts.seen.mapped:
        return []
    event = unanswered[0]
    return [
        Finding(
            f"success, although a step failed: {step_text(event)}",
            "failure, or the same step done again with success",
            "success",
        )
    ]


@clause("ERROR_SET")
def _error_set(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    if seen.death is not None:
        if not seen.death.note.startswith("an error was set twice"):
            return None
        summary = "an error is set over another one, which aborts"
        return [Finding(summary, "one error", seen.death.note, "twice")]
    if not seen.error_given or not facts.has_errp:
        return None
    text = seen.message.decode(errors="backslashreplace")
    if seen.mapped:
        if seen.error_left:
            return [Finding("success sets an error", "no error", repr(text), "success")]
        return []
    if not seen.error_left:
        return [Finding("failure sets no error", "an error in *errp", "*errp is NULL", "none")]
    if not text.strip():
        return [Finding("the error's message is empty", "a message", repr(text), "empty")]
    if text.endswith("\n"):
        summary = "the error's message ends in a newline"
        return [Finding(summary, repr(text.rstrip("\n")), repr(text), "newline")]
    return []


@clause("UNMAP_ON_ERROR")
def _unmap_on_error(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    extra = seen.pages_after - seen.pages_before
    if not facts.completed or seen.mapped or facts.unmap_failed or not (facts.took(MMAP, MREMAP) or extra):
        return None
    expected = "nothing of the subject's mapped after it failed"
    if seen.strays:
        where = ", ".join(f"[{place(run.start, 'R')}, {place(run.end, 'R')})" for run in seen.strays)
        return [
            Finding("a failed call leaves pages mapped", expected, f"still mapped: {where}, R being its reservation")
        ]
    if extra:
        return [Finding(f"a failed call leaves the process with {extra:+} pages", expected, f"{extra:+} pages")]
    return []


# ---- what was asked for on the way ----------------------------------------------------------------------------


@clause("CONFINED")
def _confined(facts: Facts) -> list[Finding] | None:
    if not facts.took(MMAP, MUNMAP, MPROTECT, MREMAP, OTHER_CALL) and not facts.seen.harness_changes:
        return None
    expected = "only addresses inside the reservation that it made and still holds"
    findings = [
        Finding(
            f"{STEPS[event.step]} outside the subject's own reservation",
            expected,
            call_text(event, facts.case, facts.seen),
        )
        for event in facts.events(OUTSIDE)
        if _touches(event)
    ]
    if facts.seen.harness_changes:
        n = facts.seen.harness_changes
        changed = f"{n} mapping{'s' * (n != 1)} that {'are' if n > 1 else 'is'} not the subject's changed"
        findings.append(Finding("changes mappings by system calls of its own", expected, changed, "unseen"))
    return findings


def _touches(event: Event) -> bool:
    if event.step == MMAP:
        return not event.a3 & MAP_FIXED_NOREPLACE
    return event.step in (MUNMAP, MPROTECT, MREMAP, OTHER_CALL)


@clause("NO_WINDOW")
def _no_window(facts: Facts) -> list[Finding] | None:
    if not facts.completed or not facts.took(MMAP):
        return None
    if not facts.took(MUNMAP, MREMAP):
        return []
    freed: list[tuple[int, int]] = []
    expected = "what is reserved stays reserved until it is overlaid"
    steps = facts.seen.column("step")
    first = min(steps.index(step) for step in (MUNMAP, MREMAP) if step in steps)
    for event in map(facts.seen.event, range(first, len(steps))):
        if event.errno:
            continue
        if event.step == MMAP:
            start, end = event.result, event.result + _round_up(event.a1, facts.page)
            asked_for = event.a0 == event.result and event.a0
            if asked_for and _meets(freed, start, end):
                text = call_text(event, facts.case, facts.seen)
                return [Finding("the subject frees part of the range and maps there again", expected, text)]
            freed = list(_without(freed, start, end))
        elif event.step in (MUNMAP, MREMAP) and event.flags & OWNED:
            freed.append((event.a0, event.a0 + _round_up(event.a1, facts.page)))
            if event.step == MREMAP:
                freed = list(_without(freed, event.result, event.result + _round_up(event.a2, facts.page)))
    if facts.rightly_mapped and freed:
        covered = [(facts.seen.base + run.start, facts.seen.base + run.end) for run in facts.seen.runs]
        for start, end in covered:
            freed = list(_without(freed, start, end))
        if _meets(freed, facts.seen.address, facts.seen.address + facts.length):
            return [Finding("the subject frees part of the range that it returns", expected, "an unmapped part")]
    return []


def _round_up(length: int, page: int) -> int:
    return -(-length // page) * page


def _meets(ranges: list[tuple[int, int]], start: int, end: int) -> bool:
    return any(start < e and s < end for s, e in ranges)


def _without(ranges: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    for s, e in ranges:
        if s < min(e, start):
            yield s, min(e, start)
        if max(s, end) < e:
            yield max(s, end), e


@clause("NO_LEAK")
def _no_leak(facts: Facts) -> list[Finding] | None:
    seen = facts.seen
    if not facts.completed:
        return None
    findings = []
    if seen.lowest_fd_after != seen.lowest_fd_before:
        findings.append(
            Finding(
                "a descriptor stays open, or one that is not the subject's is gone",
                f"{seen.lowest_fd_before} the lowest free descriptor",
                f"{seen.lowest_fd_after}",
                "descriptor",
            )
        )
    if seen.heap_live:
        blocks = f"{seen.heap_live} heap block{'s' * (seen.heap_live != 1)}"
        findings.append(
            Finding(f"{blocks} not freed", "every allocation freed", f"{seen.heap_live_bytes} bytes", "heap")
        )
    if seen.cached_frees:
        findings.append(
            Finding("cached region information is freed", "the cache keeps it", f"{seen.cached_frees} times", "cache")
        )
    closed = [e for e in facts.events(OUTSIDE) if e.step == CLOSE]
    if closed:
        text = call_text(closed[0], facts.case, seen)
        findings.append(Finding("a descriptor is closed that the subject did not open", "left open", text, "close"))
    return findings


@clause("REPEATABLE")
def _repeatable(facts: Facts) -> list[Finding] | None:
    second = facts.seen.second
    if second is None or not facts.rightly_mapped:
        return None
    expected = "a second mapping, independent of the first"
    if not second.mapped:
        return [Finding("the same call fails the second time", expected, "failure")]
    if not second.like_first or second.differences:
        return [Finding("the second mapping is not like the first", expected, "other pages, or the same address")]
    if not second.first_whole or second.first_differences:
        return [Finding("ending the second mapping damages the first", expected, "the first mapping has changed")]
    return []


@clause("SURVIVES")
def _survives(facts: Facts) -> list[Finding] | None:
    death = facts.seen.death
    if death is None:
        if facts.seen.bad_frees:
            return [
                Finding(
                    "frees what is not allocated, on which the C library aborts", "no such free", "a bad free", "free"
                )
            ]
        return []
    last = facts.seen.event(len(facts.seen.events) // EVENT.size - 1) if facts.seen.events else None
    after = f" after {step_text(last)}" if last is not None and last.flags & FAULTED else ""
    where = f"{STEPS[last.step]}, {bool(last.flags & FAULTED)}" if last is not None else "start"
    text = death_text(death)
    # Not by the address: one fault of the subject's may read many.
    cause = f"{death.how} {death.signal} after {where}"
    return [Finding(f"{text}{after}", "a return, with success or failure", text, cause)]
