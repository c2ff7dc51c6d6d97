"""A case drawn in plain ASCII: how its dmabuf is tiled by segments, of which memory, and what the spec expects."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterator

from vfio_verify.corpus.entry import Entry
from vfio_verify.report.case_text import calls_of, case_rows, row_lines, segment_base
from vfio_verify.values.case import Case, Policy, Region, Segment
from vfio_verify.values.features import features
from vfio_verify.values.model import expect
from vfio_verify.values.words import number_of, place

WIDTH = 80
_INDENT = 3
_SEGMENTS_SHOWN, _BAR = 16, 48
_MARKS = string.digits + string.ascii_lowercase + string.ascii_uppercase


def shown(entry: Entry, policy: Policy | None = None) -> Iterator[str]:
    """Everything that is known of a kept case, in lines of at most 80 columns."""
    yield from _about(entry)
    for title, case in calls_of(entry.case):
        if title:
            yield f"{' ' * _INDENT}{title}"
        for name, text in case_rows(case):
            yield from _row(name, text)
        yield ""
    yield from _row("expected", expected_text(entry.case, policy or entry.policy))
    yield from _row("features", "; ".join(sorted(features(entry.case))))
    yield ""
    yield from dmabuf(entry.case)
    yield ""
    yield from memory(entry.case)


def _about(entry: Entry) -> Iterator[str]:
    yield printable(entry.name)
    origin = entry.origin
    if origin is not None:
        yield from _row("violates", origin.clause + (f" ({origin.cause})" if origin.cause else ""))
        seed = "" if origin.seed is None else f"seed {origin.seed}"
        tool = f"vfio_verify {origin.version}" if origin.version else ""
        found = ", ".join(filter(None, (f"by {origin.subject}" if origin.subject else "", origin.date, tool, seed)))
        yield from _row("found", found or "not known where")
    if entry.note:
        yield from _row("note", entry.note)
    yield ""


def expected_text(case: Case, policy: Policy = "same-block") -> str:
    """What the model demands: a mapping, a refusal by these clauses, or either."""
    expected = expect(case, policy)
    if expected.refusals:
        reasons = dict.fromkeys(f"{refusal.clause}: {refusal.reason}" for refusal in expected.refusals)
        return f"must refuse. {'; '.join(reasons)}"
    steps = " while no step fails, and must fail if one does" if case.fault_plan else ""
    if expected.either:
        return f"may map or refuse{steps}: {_why_either(case)}"
    return f"must map{steps}"


def _why_either(case: Case) -> str:
    if case.iovec[-1].length % case.page_size:
        return "the last segment ends inside a page"
    if sum(segment.length for segment in case.iovec) != case.total_size:
        return "the lengths reach beyond total_size, to the end of its last page"
    return "the kernel may refuse a step"


def printable(text: str) -> str:
    """Text of someone else's file, without what a terminal would obey."""
    return "".join(c if c.isascii() and c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _row(name: str, text: str) -> Iterator[str]:
    for column, line in row_lines(name, printable(text), WIDTH, _INDENT, break_long_words=True):
        yield (column + line).rstrip()


# ---- the dmabuf ---------------------------------------------------------------------------------------------------


def dmabuf(case: Case) -> Iterator[str]:
    """The range from A on, a box for each segment, and what total_size leaves over or cuts off."""
    total = sum(segment.length for segment in case.iovec)
    count = number_of(len(case.iovec), "segment")
    yield f"{' ' * _INDENT}dmabuf: {count}, {total:#x} bytes; total_size {case.total_size:#x}"
    at, cut_shown = 0, False
    for number, segment in enumerate(case.iovec):
        if _is_left_out(number, len(case.iovec)):
            if number == _SEGMENTS_SHOWN // 2:
                yield _edge(at)
                yield from _inside(f"... {len(case.iovec) - _SEGMENTS_SHOWN} more segments")
        else:
            yield _edge(at)
            yield from _inside(f"{_mark(number)}  {_segment_text(case, segment)}")
        if not cut_shown and at <= case.total_size < at + segment.length:
            cut_shown = True
            yield from _inside(f"-- total_size ends here, {total - case.total_size:#x} bytes before the end")
        at += segment.length
    if case.total_size > total:
        yield _edge(at)
        yield from _inside(f"no segment: {case.total_size - total:#x} bytes of total_size")
        at = case.total_size
    yield _edge(at)


def _is_left_out(number: int, count: int) -> bool:
    half = _SEGMENTS_SHOWN // 2
    return count > _SEGMENTS_SHOWN and half <= number < count - half


def _mark(number: int) -> str:
    """One character for a segment, as in the bars of the blocks."""
    return _MARKS[number] if number < len(_MARKS) else "#"


def _segment_text(case: Case, segment: Segment) -> str:
    size = None if segment.block is None else case.block_size(segment.block)
    past = 0 if size is None else segment.offset + segment.length - size
    over = f", {past:#x} past its end" if past > 0 else ""
    return f"{segment_base(segment)}, {segment.length:#x} bytes{over}"


def _edge(at: int) -> str:
    return f"{' ' * _INDENT}{place(at):<21}+{'-' * (WIDTH - _INDENT - 23)}+"


def _inside(text: str) -> Iterator[str]:
    width = WIDTH - _INDENT - 25
    for line in textwrap.wrap(text, width, subsequent_indent="   "):
        yield f"{' ' * _INDENT}{'':<21}| {line:<{width}} |"


# ---- where it comes from ---------------------------------------------------------------------------------------


def memory(case: Case) -> Iterator[str]:
    """Each region with its areas and holes, and each block with a bar: which segments lie where, * for several."""
    pad = " " * _INDENT
    for number, device in enumerate(case.devices):
        for region in device.regions:
            yield from _region(case, number, region)
    for number, block in enumerate(case.ram_blocks):
        if block.device is None:
            yield f"{pad}plain RAM"
            yield from _block(case, number, 0)
    nowhere = [_mark(i) for i, segment in enumerate(case.iovec) if segment.block is None]
    if nowhere:
        yield f"{pad}in no block: {' '.join(nowhere[:_SEGMENTS_SHOWN])}"


def _region(case: Case, number: int, region: Region) -> Iterator[str]:
    pad = " " * _INDENT
    where = "" if region.offset is None else f", at {region.offset:#x} of its file"
    yield f"{pad}device {number}, region {region.index}: {region.size:#x} bytes{where}"
    if not region.mappable:
        yield f"{pad}  {0:<#14x}  not mappable"
    at = 0
    for position, area in enumerate(region.mmap_areas()):
        if area.offset > at:
            yield f"{pad}  {at:<#14x}  hole, {area.offset - at:#x} bytes"
        owners = [
            i for i, b in enumerate(case.ram_blocks) if (b.device, b.region, b.area) == (number, region.index, position)
        ]
        if not owners:
            yield f"{pad}  {area.offset:<#14x}  area {position}, {area.size:#x} bytes, no block"
        for block in owners:
            yield from _block(case, block, area.offset)
        at = area.offset + area.size
    if region.mappable and at < region.size:
        yield f"{pad}  {at:<#14x}  hole, {region.size - at:#x} bytes"


def _block(case: Case, number: int, at: int) -> Iterator[str]:
    size = case.block_size(number)
    pages = -(-size // case.page_size)
    each = -(-pages // _BAR)
    cells = ["."] * -(-pages // each)
    unit = each * case.page_size
    for i, segment in enumerate(case.iovec):
        if segment.block == number and segment.length:
            first, last = segment.offset // unit, (segment.offset + segment.length - 1) // unit
            for cell in range(first, min(last + 1, len(cells))):
                cells[cell] = _mark(i) if cells[cell] == "." else "*"
    pad = " " * _INDENT
    yield f"{pad}  {at:<#14x}  block {number}, {size:#x} bytes, {unit:#x} a character"
    yield f"{pad}  {'':14}  [{''.join(cells)}]"
