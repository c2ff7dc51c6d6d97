"""What a mapping must be: CONTIGUOUS, CONTENTS, READ_ONLY, REPEATABLE."""

from __future__ import annotations

from collections.abc import Iterator

from vfio_verify.judge.facts import ClauseJudge, Facts, Finding
from vfio_verify.judge.relations import (
    MAX_PIECES,
    SAYS,
    Piece,
    backing_at,
    causes_of,
    displaced,
    explanations,
    missing_part,
)
from vfio_verify.values.case import PAGE, Case
from vfio_verify.values.cause import names_of, of_kind
from vfio_verify.values.observation import (
    ANONYMOUS,
    DEVICE_UNSEEN,
    EXEC,
    GUEST_UNSEEN,
    OTHER,
    READ,
    SHARED,
    STILL_READABLE,
    UNEQUAL,
    UNREADABLE,
    WRITE,
)
from vfio_verify.values.words import access, memory_name, place, stamp_name


def _contiguous(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    seen, page = facts.seen, facts.page
    tiled = f"[A, A+{facts.length:#x}) tiled by the segments' overlays, and nothing else mapped"
    if seen.address % page or not seen.address:
        summary = "the address is not one of a page"
        return [Finding(summary, "a page-aligned address A", f"{seen.address:#x}", "address")]
    findings = [Finding(what, tiled, where, cause) for what, where, cause in _untiled(facts)]
    strays, excused = facts.left
    extra = seen.pages_after - seen.pages_before - facts.length // PAGE
    if strays:
        where = ", ".join(f"[{place(run.start)}, {place(run.end)})" for run in strays)
        findings.append(Finding("pages stay mapped outside the mapping", tiled, f"also mapped: {where}", "outside"))
    elif excused is not None and extra != excused and not findings:
        extra -= excused
        more = "more" if extra > 0 else "fewer"
        summary = f"the process has {abs(extra)} {more} pages mapped than the mapping accounts for"
        findings.append(Finding(summary, tiled, f"{extra:+} pages", more))
    return findings


def _untiled(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """What is wrong, where, and which way of going wrong it shows."""
    missing: dict[str, list[tuple[int, int]]] = {}
    at = 0
    for run in facts.seen.runs:
        if run.start > at:
            missing.setdefault("hole", []).append((at, run.start))
        if not run.flags & READ:
            missing.setdefault("placeholder", []).append((run.start, run.end))
        elif run.memory in (OTHER, ANONYMOUS):
            missing.setdefault("anonymous", []).append((run.start, run.end))
        at = run.end
    if at < facts.length:
        missing.setdefault("hole", []).append((at, facts.length))
    for kind, parts in missing.items():
        start, end = parts[0]
        where = f"[{place(start)}, {place(end)})"
        inside = [missing_part(max(s, 0), min(e, facts.length), facts.segments) for s, e in parts if e > s]
        for cause in causes_of(inside[:MAX_PIECES]):
            what, found = _MISSING[kind]
            yield what, found.format(where), of_kind(kind, cause)
    yield from _out_of_place(facts)


_MISSING = {
    "hole": ("there is a hole in the mapping", "nothing mapped in {}"),
    "placeholder": ("a placeholder page is left in the mapping", "{} is not readable"),
    "anonymous": ("part of the mapping is no overlay of the device", "{} is anonymous memory"),
}


def _out_of_place(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """The overlays are the segments', but not in their place."""
    pieces = facts.wrong_pieces
    shown = [(piece.position, piece.got) for piece in pieces[:1]]
    if not pieces:  # all of it may lie outside
        shown = [(run.start, (run.memory, run.offset)) for run in facts.seen.strays if run.flags & READ]
    at_home = {(p, h) for p, got in shown for h in facts.segments.homes(got) if backing_at(facts.seen.runs, h) != got}
    if at_home and (not pieces or displaced(pieces, facts.seen.runs, facts.segments)):
        position, home = min(at_home)
        where = f"at {place(position)} there is what belongs at {place(home)}"
        yield "the overlays are not in iovec order, each in its place", where, "order"


def _contents(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    return [*_wrong_backing(facts), *_wrong_words(facts)]


def _wrong_backing(facts: Facts) -> Iterator[Finding]:
    pieces = facts.wrong_pieces
    if displaced(pieces, facts.seen.runs, facts.segments):
        yield _wrong_page(pieces[0], "order", facts.case)
        return
    explained = [(piece, explanations(piece, facts.segments)) for piece in pieces]
    for cause in causes_of(found for _, found in explained):
        names = set(names_of(cause))
        first = next(p for p, found in explained if any(explanation & names for explanation in found))
        yield _wrong_page(first, cause, facts.case)


def _wrong_page(piece: Piece, cause: str, case: Case) -> Finding:
    at = f"at {place(piece.position)}"
    wanted, got = memory_name(*piece.wanted, case), memory_name(*piece.got, case)
    if piece.got == piece.wanted:
        summary = "a page is a private copy of the segment's memory"
        wanted, got = f"{wanted}, shared", "a private mapping of it"
    else:
        how = "; or ".join(SAYS[name] for name in names_of(cause) if name in SAYS)
        summary = "a page shows other memory than the segment's" + (f": {how}" if how else "")
    return Finding(summary, f"{at}: {wanted}", f"{at}: {got}", cause, position=piece.position)


_WRONG_WORDS = {
    UNEQUAL: ("words", "a word differs from the segment's memory"),
    DEVICE_UNSEEN: ("device unseen", "a change made by the device does not show"),
    GUEST_UNSEEN: ("guest unseen", "a change made through the guest's mapping does not show"),
    STILL_READABLE: ("still there", "a page can be read when the device's memory is gone"),
}


def _wrong_words(facts: Facts) -> Iterator[Finding]:
    at = facts.segments.at
    wrong = {i for piece in facts.wrong_pieces for i in range(at(piece.position), at(piece.end - 1) + 1)}
    for d in facts.seen.differences:
        if d.kind == UNREADABLE or d.segment in wrong:
            continue  # the mappings say why
        expected, seen = stamp_name(d.expected, facts.case), stamp_name(d.seen, facts.case)
        if d.kind == STILL_READABLE:
            expected, seen = "SIGBUS, as when iov_base[k] is read", f"{d.seen:#x}"
        where = f"segment {d.segment}, byte {d.offset:#x}"
        cause, what = _WRONG_WORDS[d.kind]
        yield Finding(what, f"{where}: {expected}", f"{where}: {seen}", cause)


def _read_only(facts: Facts) -> list[Finding] | None:
    if not facts.rightly_mapped:
        return None
    summary = "a page's access is not shared and read-only"
    findings = []
    for run in facts.seen.runs:
        if run.flags != READ | SHARED and run.flags & ~SHARED:
            cause = "executable" if run.flags & EXEC else "writable" if run.flags & WRITE else "private"
            where = f"{access(run.flags)} at [{place(run.start)}, {place(run.end)})"
            findings.append(Finding(summary, "r--s", where, cause))
    return findings


def _repeatable(facts: Facts) -> list[Finding] | None:
    second = facts.seen.second
    if second is None or not facts.rightly_mapped:
        return None
    independent = "a second mapping, independent of the first"
    starved = second.starved and not second.mapped
    if starved and second.first_whole and not second.first_differences:
        return None
    if not second.mapped and not starved:
        return [Finding("the same call fails the second time", independent, "failure", "second fails")]
    if second.mapped and (not second.like_first or second.differences):
        summary, other = "the second mapping is not like the first", "other pages, or the same address"
        return [Finding(summary, independent, other, "unlike")]
    if not second.first_whole or second.first_differences:
        summary, changed = "the second call, or its end, damages the first mapping", "the first mapping has changed"
        return [Finding(summary, independent, changed, "damaged")]
    if second.left_open and not facts.seen.fds_left:
        summary = "the second call leaves a descriptor open, or closes one that is not its own"
        return [Finding(summary, "descriptors as before it", "others", "descriptor")]
    return []


CLAUSES: dict[str, ClauseJudge] = {
    "CONTIGUOUS": _contiguous,
    "CONTENTS": _contents,
    "READ_ONLY": _read_only,
    "REPEATABLE": _repeatable,
}
