"""How wrong memory relates to the right one, and which part of an iovec is missing. Pure.

A relation is a short code. What one piece of a mapping shows can have several explanations, by chance: an offset that
lacks the area's may be another segment's place. The fewest relations that explain all wrong pieces of a run are its
causes; where several would do, the cause is written `a or b`, and `sameness` decides when all runs are known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from vfio_verify.values.backing import backings, region_at
from vfio_verify.values.case import REGION_SHIFT, Case
from vfio_verify.values.cause import any_of
from vfio_verify.values.model import Overlay
from vfio_verify.values.observation import ANONYMOUS, OTHER, RAM, READ, SHARED, Run

MAX_PIECES, _MAX_SEGMENTS = 256, 1024
"""How many pieces of one run, and how many segments, are looked at: more would tell nothing new."""

SAYS = {
    "area offset": "the area's offset in the region is missing",
    "region offset": "the region's offset in the file is missing",
    "guessed offset": "the region's offset in the file is guessed from its index",
    "32 bits": "an offset has lost its upper half",
    "other area": "the offset is another area's",
    "other region": "it is another region's",
    "other device": "it is another device's",
    "plain RAM": "it is plain RAM",
    "other segment": "it is another segment's",
    "adjacent": "it is what follows an earlier segment",
    "elsewhere": "it is at another offset",
    "copy": "it is anonymous memory, a copy at best",
    "private": "it is a private copy",
}
"""What is said of a page that shows other memory than the segment's."""


class Piece(NamedTuple):
    """Pages from a position of the mapping on, which should show one place and show another."""

    position: int
    wanted: tuple[int, int]
    got: tuple[int, int]
    shared: bool
    end: int


Explanation = frozenset[str]


class Segments:
    """Where the segments lie in the finished mapping, and what stands behind each."""

    def __init__(self, case: Case, overlays: Sequence[Overlay]) -> None:
        self.case, self._overlays = case, overlays
        self.starts: list[int] = []
        at = 0
        for segment in case.iovec:
            self.starts.append(at)
            at += -(-segment.length // case.page_size) * case.page_size
        self.end = at

    def at(self, position: int) -> int:
        """The number of the segment there."""
        return bisect_right(self.starts, position) - 1

    def end_of(self, number: int) -> int:
        """Where the next one begins."""
        return self.starts[number + 1] if number + 1 < len(self.starts) else self.end

    def place(self, position: int) -> tuple[int, int]:
        """What must stand behind a position."""
        i = bisect_right(self._overlays, position, key=lambda overlay: overlay.start) - 1
        overlay = self._overlays[i]
        return overlay.memory, overlay.offset + position - overlay.start

    def homes(self, place: tuple[int, int]) -> Iterator[int]:
        """The positions that must show a place."""
        for overlay in self._overlays:
            within = place[1] - overlay.offset
            if overlay.memory == place[0] and 0 <= within < overlay.end - overlay.start:
                yield overlay.start + within

    def places(self, but: int) -> Iterator[tuple[int, int, int]]:
        """Memory, offset and length of the other segments."""
        for j, start in enumerate(self.starts[:_MAX_SEGMENTS]):
            if j != but and self.end_of(j) > start:
                memory, offset = self.place(start)
                yield memory, offset, self.end_of(j) - start


def wrong_pieces(overlays: Sequence[Overlay], runs: Sequence[Run]) -> Iterator[Piece]:
    """What is not what it must be. What cannot be read is a hole or a placeholder, and is left out."""
    for overlay, run in meetings(overlays, runs):
        if not run.flags & READ:
            continue
        start = max(run.start, overlay.start)
        wanted = (overlay.memory, overlay.offset + start - overlay.start)
        piece = Piece(
            start,
            wanted,
            (run.memory, run.offset + start - run.start),
            bool(run.flags & SHARED),
            min(run.end, overlay.end),
        )
        if piece.got != wanted or not piece.shared:
            yield piece


def meetings(overlays: Sequence[Overlay], runs: Sequence[Run]) -> Iterator[tuple[Overlay, Run]]:
    """Each overlay with each run that it meets. Both ascend, and there may be thousands."""
    i = j = 0
    while i < len(overlays) and j < len(runs):
        overlay, run = overlays[i], runs[j]
        if max(run.start, overlay.start) < min(run.end, overlay.end):
            yield overlay, run
        if run.end <= overlay.end:
            j += 1
        else:
            i += 1


def explanations(piece: Piece, segments: Segments) -> set[Explanation]:
    """What alone, or else which two together, would make the piece show what it shows."""
    memory = piece.got[0]
    if memory in (OTHER, ANONYMOUS):
        return {frozenset({"copy"})}
    if piece.got == piece.wanted:
        return {frozenset({"private"})}
    if memory == RAM:
        return {frozenset({"plain RAM"})}
    number = segments.at(piece.position)
    changes = dict(_changed_offsets(piece.wanted, number, piece.position, segments))
    others = list(_others(number, piece.position, segments))
    found = {frozenset({name}) for name, places in changes.items() if piece.got in places}
    found |= {frozenset({name}) for places, name in others if piece.got in places}
    if found:
        return found
    for places, name in others:
        for place in places:
            changed = _changed_offsets(place, number, piece.position, segments)
            found |= {frozenset({name, change}) for change, results in changed if piece.got in results}
    if found:
        return found
    here, there = (region_at(segments.case, *place) for place in (piece.wanted, piece.got))
    if here is not None and there is not None and here[:2] != there[:2]:
        return {frozenset({"other device" if here[0] != there[0] else "other region"})}
    return {frozenset({"elsewhere" if piece.got[0] == piece.wanted[0] else "other device"})}


def _others(number: int, position: int, segments: Segments) -> Iterator[tuple[list[tuple[int, int]], str]]:
    """Places that a confused subject could take: of other segments, and behind earlier ones."""
    within = position - segments.starts[number]
    others = [(memory, offset + within) for memory, offset, _ in segments.places(number)]
    yield others, "other segment"
    first_memory, first = segments.place(0)
    adjacent = [(first_memory, first + position)]
    if number:
        before = segments.starts[number - 1]
        memory, offset = segments.place(before)
        adjacent.append((memory, offset + position - before))
    yield adjacent, "adjacent"


def _changed_offsets(
    place: tuple[int, int], number: int, position: int, segments: Segments
) -> Iterator[tuple[str, set[tuple[int, int]]]]:
    """What becomes of a place when a term of its offset is lost or another's."""
    memory, offset = place
    case, segment = segments.case, segments.case.iovec[number]
    if segment.block is None or (area := case.area_of(segment.block)) is None:
        return
    own = segment.offset + position - segments.starts[number]
    own_memory, own_offset = segments.place(position)
    region = own_offset - area.offset - own
    if memory != own_memory:
        return
    if area.offset:
        yield "area offset", {(memory, offset - area.offset)}
    if region:
        lost = {(memory, offset - region)}
        yield "region offset", lost | ({(memory, offset - region - area.offset)} if area.offset else set())
    yield "32 bits", {(memory, base + _low(offset - base)) for base in (0, region, region + area.offset)} - {place}
    yield "other area", {(memory, offset - area.offset + other) for other in _areas(case, segment.block)} - {place}
    guess = case.region_of(segment.block)
    if guess is not None:
        yield "guessed offset", {(memory, offset - region + (guess.index << REGION_SHIFT))} - {place}
    others = _regions(case, segment.block)
    starts = {(file, offset - region + start) for file, start in others}
    yield "other region", (starts | {(file, offset) for file, _ in others if file != memory}) - {place}


def _low(offset: int) -> int:
    return offset & 0xFFFFFFFF


def _areas(case: Case, block: int) -> list[int]:
    region = case.region_of(block)
    return [] if region is None else [area.offset for area in region.areas or ()]


def _regions(case: Case, block: int) -> list[tuple[int, int]]:
    """Where the other regions of the device begin, each in its file."""
    device, region = case.ram_blocks[block].device, case.region_of(block)
    return [(b.memory, b.offset) for b in backings(case) if b.device == device and b.region is not region]


def causes_of(pieces: Iterable[set[Explanation]]) -> list[str]:
    """The fewest relations that explain all pieces; one that only may be it is joined to the others by `or`."""
    distinct = {frozenset(one) for one in pieces}
    names = sorted({name for piece in distinct for explanation in piece for name in explanation})
    for size in range(1, len(names) + 1):
        enough = [
            set(some)
            for some in combinations(names, size)
            if all(any(explanation <= set(some) for explanation in piece) for piece in distinct)
        ]
        if enough:
            certain = set.intersection(*enough)
            return sorted(certain) if certain else [any_of(set.union(*enough))]
    return []


def displaced(pieces: Sequence[Piece], runs: Sequence[Run], segments: Segments) -> bool:
    """Whether all that is wrong is the memory of other places of this mapping, which do not show it themselves. Then
    the overlays are the right ones in the wrong places."""
    if not pieces:
        return False
    page_size = segments.case.page_size
    pages = ((p.got[0], p.got[1] + at) for p in pieces for at in (0, p.end - p.position - page_size))
    return all(any(backing_at(runs, home) != page for home in segments.homes(page)) for page in pages)


def backing_at(runs: Sequence[Run], position: int) -> tuple[int, int] | None:
    """What stands behind a position."""
    i = bisect_right(runs, position, key=lambda run: run.start) - 1
    if i < 0 or position >= runs[i].end:
        return None
    return runs[i].memory, runs[i].offset + position - runs[i].start


def missing_part(start: int, end: int, segments: Segments) -> set[Explanation]:
    """Which part of the iovec is not there, where [start, end) of the mapping is missing."""
    first, last = segments.at(start), segments.at(end - 1)
    whole = start == segments.starts[first] and end == segments.end_of(last)
    found = set()
    if whole:
        found.add(frozenset({"the last segments" if end == segments.end else "segments"}))
    one_page = end - start == segments.case.page_size
    if not whole or (first == last and one_page):
        found.add(frozenset({"part of a segment"}))
    return found
