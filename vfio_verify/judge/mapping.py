"""What a mapping must be: CONTIGUOUS, CONTENTS, READ_ONLY, REPEATABLE."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator

from vfio_verify.judge.facts import ClauseJudge, Facts, Finding, meetings
from vfio_verify.observation import ANONYMOUS, OTHER, READ, SHARED, STILL_READABLE, UNEQUAL, UNREADABLE, Run
from vfio_verify.words import access, memory_name, place, stamp_name


def _contiguous(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    seen, page = facts.seen, facts.page
    tiled = f"[A, A+{facts.length:#x}) tiled by the segments' overlays, and nothing else mapped"
    if seen.address % page or not seen.address:
        return [Finding("the address is not one of a page", "a page-aligned address A", f"{seen.address:#x}")]
    findings = [Finding(what, tiled, where) for what, where in _untiled(facts)]
    strays, excused = facts.left()
    extra = seen.pages_after - seen.pages_before - facts.length // page
    if strays:
        where = ", ".join(f"[{place(run.start)}, {place(run.end)})" for run in strays)
        findings.append(Finding("pages stay mapped outside the mapping", tiled, f"also mapped: {where}"))
    elif excused is not None and extra != excused and not findings:
        extra -= excused
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
    i = bisect_right(runs, position, key=lambda run: run.start) - 1
    if i < 0 or position >= runs[i].end:
        return None
    return runs[i].memory, runs[i].offset + position - runs[i].start


def _contents(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    return [*_wrong_backing(facts), *_wrong_words(facts)]


def _wrong_backing(facts: Facts) -> Iterator[Finding]:
    for overlay, run in meetings(facts.expected.overlays, facts.seen.runs):
        if not run.flags & READ:
            continue  # what cannot be read is a hole or a placeholder: CONTIGUOUS
        start = max(run.start, overlay.start)
        wanted = overlay.offset + start - overlay.start
        got = run.offset + start - run.start
        if run.memory != overlay.memory or (got != wanted and run.memory < OTHER):
            yield Finding(
                "a page shows other memory than the segment's",
                f"at {place(start)}: {memory_name(overlay.memory, wanted, facts.case)}",
                f"at {place(start)}: {memory_name(run.memory, got, facts.case)}",
            )
        elif not run.flags & SHARED:
            yield Finding(
                "a page is a private copy of the segment's memory",
                f"at {place(start)}: {memory_name(overlay.memory, wanted, facts.case)}, shared",
                f"at {place(start)}: a private mapping of it",
            )


_WHAT = {
    UNEQUAL: "a word differs from the segment's memory",
    2: "a change made by the device does not show",
    3: "a change made through the guest's mapping does not show",
    STILL_READABLE: "a page can be read when the device's memory is gone",
}


def _wrong_words(facts: Facts) -> Iterator[Finding]:
    for d in facts.seen.differences:
        if d.kind == UNREADABLE:
            continue  # the mappings say why: CONTIGUOUS
        if d.kind == STILL_READABLE:
            where = f"segment {d.segment}, byte {d.offset:#x}"
            yield Finding(_WHAT[d.kind], f"{where}: SIGBUS, as when iov_base[k] is read", f"{where}: {d.seen:#x}")
            continue
        yield Finding(
            _WHAT[d.kind],
            f"segment {d.segment}, byte {d.offset:#x}: {stamp_name(d.expected, facts.case)}",
            f"segment {d.segment}, byte {d.offset:#x}: {stamp_name(d.seen, facts.case)}",
        )


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


def _repeatable(facts: Facts) -> list[Finding] | None:
    second = facts.seen.second
    if second is None or not facts.rightly_mapped:
        return None
    expected = "a second mapping, independent of the first"
    starved = second.starved and not second.mapped
    if starved and second.first_whole and not second.first_differences:
        return None
    if not second.mapped and not starved:
        return [Finding("the same call fails the second time", expected, "failure")]
    if second.mapped and (not second.like_first or second.differences):
        return [Finding("the second mapping is not like the first", expected, "other pages, or the same address")]
    if not second.first_whole or second.first_differences:
        return [
            Finding("the second call, or its end, damages the first mapping", expected, "the first mapping has changed")
        ]
    return []


CLAUSES: dict[str, ClauseJudge] = {
    "CONTIGUOUS": _contiguous,
    "CONTENTS": _contents,
    "READ_ONLY": _read_only,
    "REPEATABLE": _repeatable,
}
