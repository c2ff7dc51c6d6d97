"""What a case has that the spec speaks of: its features, as short names.

Coverage in this project is of cases, not of the subject's code: a corpus is merged by them, a fuzzing campaign says
which it has met, and a test holds the generator to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from vfio_verify.values.case import Call, Case, Change, Drop, End, Fork
from vfio_verify.values.model import expect

_MANY = (1, 2, 3, 6, 16, 64, 256, 4096, 65536)
_GIB = 1 << 30
_SMALLEST = 4096

FEATURES: tuple[str, ...] = (
    *("segments: none", "segments: 1", "segments: 2", "segments: 3", "segments: 4 to 6", "segments: 7 to 16"),
    *("segments: 17 to 64", "segments: 65 to 256", "segments: 257 to 4096"),
    *("segment: several pages", "segment: over 2 GiB", "segment: over 4 GiB"),
    *("segments: repeated", "segments: overlapping", "segments: adjacent", "segments: descending"),
    *("misaligned: length, last", "misaligned: length, not last", "misaligned: address"),
    *("empty: a segment", "total: too large", "total: too small", "total: the sum overflows"),
    *("block: past its end", "block: at its very end", "blocks: several", "block: none", "block: plain RAM"),
    *("region: index 0", "region: other index", "region: index over 8", "region: sparse", "region: second area"),
    *("region: read-only", "regions: several", "devices: several", "device: its areas bound its mmap"),
    *("device: a descriptor for each region", "device: a file for each region"),
    *("device: its regions are in ordinary files", "region: at an offset of its own", "errp: NULL"),
    *("kernel: hints not followed", "kernel: MAP_FIXED_NOREPLACE unknown", "kernel: no locked memory"),
    *("kernel: a refused mremap has unmapped its target", "host pages: 16 KiB", "host pages: 64 KiB"),
    "variables: zero until they are set",
    *("region: smaller than a page", "region: ends inside a page", "block: its last page is only partly the region's"),
    *("region: QEMU leaves the MSI-X table out", "region: its MSI-X table may be mapped"),
    *("blocks: side by side in the host", "segments: from one block on into the next", "total: ends inside a page"),
    *("expected: maps", "expected: refuses", "expected: either"),
)
"""Every feature that a generated layout can have. What fails is counted apart: see `fault_features`."""


def features(case: Case) -> frozenset[str]:
    """The features of a case: of its layout, of its faults, and of what else is called."""
    return frozenset(_layout(case)) | beyond_layout(case)


def beyond_layout(case: Case) -> frozenset[str]:
    """The features of what a case has besides its layout: of its faults, and of what else is called."""
    return frozenset((*fault_features(case), *_calls(case)))


def _layout(case: Case) -> Iterator[str]:
    count = len(case.iovec)
    yield f"segments: {_bucket(count)}"
    yield from _segments(case)
    yield from _places(case)
    total = sum(segment.length for segment in case.iovec)
    if total >= 1 << 64:
        yield "total: the sum overflows"
    elif total != case.total_size:
        yield "total: too large" if case.total_size > total else "total: too small"
    if case.total_size < total <= -(-case.total_size // case.page_size) * case.page_size:
        yield "total: ends inside a page"
    if case.errp == "null":
        yield "errp: NULL"
    kernel = case.kernel
    yield from _true(
        {
            "kernel: hints not followed": not kernel.hints,
            "kernel: MAP_FIXED_NOREPLACE unknown": not kernel.noreplace,
            "kernel: no locked memory": not kernel.locks,
            "kernel: a refused mremap has unmapped its target": kernel.mremap_unmaps,
            "variables: zero until they are set": case.variables == "zero",
        }
    )
    if case.page_size > _SMALLEST:
        yield f"host pages: {case.page_size >> 10} KiB"
    expected = expect(case)
    yield f"expected: {'refuses' if expected.refusals else 'either' if expected.either else 'maps'}"


def _bucket(count: int) -> str:
    if count == 0:
        return "none"
    low = 1
    for high in _MANY:
        if count <= high:
            return str(high) if low == high else f"{low} to {high}"
        low = high + 1
    return f"over {_MANY[-1]}"


def _segments(case: Case) -> Iterator[str]:
    iovec = case.iovec
    for i, segment in enumerate(iovec):
        if segment.length % case.page_size:
            yield "misaligned: length, last" if i + 1 == len(iovec) else "misaligned: length, not last"
        if segment.offset % case.page_size:
            yield "misaligned: address"
        if not segment.length:
            yield "empty: a segment"
        if segment.length > case.page_size:
            yield "segment: several pages"
        for size in (2, 4):
            if segment.length > size * _GIB:
                yield f"segment: over {size} GiB"
    if len(set(iovec)) < len(iovec):
        yield "segments: repeated"
    for one, other in itertools.pairwise(iovec):
        if one.block == other.block and one != other:
            if one.offset + one.length == other.offset:
                yield "segments: adjacent"
            if other.offset < one.offset:
                yield "segments: descending"
            if one.offset < other.offset + other.length and other.offset < one.offset + one.length:
                yield "segments: overlapping"


def _places(case: Case) -> Iterator[str]:
    """Where the segments lie."""
    used = {segment.block for segment in case.iovec}
    if len(used) > 1:
        yield "blocks: several"
    if len(case.devices) > 1:
        yield "devices: several"
    sizes, areas = _sizes(case), [case.area_of(block) for block in range(len(case.ram_blocks))]
    for segment in case.iovec:
        if segment.block is not None:
            size, area, end = sizes[segment.block], areas[segment.block], segment.offset + segment.length
            if end >= size:
                yield "block: past its end" if end > size else "block: at its very end"
            if area is not None and area.size < end <= size:
                yield "block: its last page is only partly the region's"
    yield from _touching(case)
    if None in used:
        yield "block: none"
    for number in used - {None}:
        assert number is not None
        block, region = case.ram_blocks[number], case.region_of(number)
        if block.device is None or region is None:
            yield "block: plain RAM"
            continue
        device, page = case.devices[block.device], case.page_size
        yield from _true(
            {
                "region: index 0": region.index == 0,
                "region: other index": region.index > 0,
                "region: index over 8": region.index > 8,
                "region: sparse": region.areas is not None and region.msix is None,
                "region: second area": bool(block.area),
                "region: read-only": not region.writable,
                "region: smaller than a page": region.size < page,
                "region: ends inside a page": region.size > page and region.size % page > 0,
                "region: QEMU leaves the MSI-X table out": region.msix == "cut",
                "region: its MSI-X table may be mapped": region.msix == "mappable",
                "region: at an offset of its own": region.offset is not None,
                "regions: several": len(device.regions) > 1,
                "device: its areas bound its mmap": device.mmap_rule == "areas",
                "device: its regions are in ordinary files": device.mmap_rule == "file",
                "device: a descriptor for each region": device.region_fds,
                "device: a file for each region": device.region_files,
            }
        )


def _true(features: dict[str, bool]) -> Iterator[str]:
    return (name for name, holds in features.items() if holds)


def _touching(case: Case) -> Iterator[str]:
    """RAMBlocks that are side by side in the host, and segments that go on from one into the next."""
    if any(case.ram_blocks[s.block].touches for s in case.iovec if s.block is not None):
        yield "blocks: side by side in the host"
    sizes = _sizes(case)
    for one, other in itertools.pairwise((*case.iovec, None)):
        if one is None or one.block is None or one.block + 1 >= len(case.ram_blocks):
            continue
        end = one.offset + one.length - sizes[one.block]
        on = other is not None and (other.block, other.offset, end) == (one.block + 1, 0, 0)
        if case.ram_blocks[one.block + 1].touches and (on or 0 < end <= sizes[one.block + 1]):
            yield "segments: from one block on into the next"


def _sizes(case: Case) -> list[int]:
    return [case.block_size(block) for block in range(len(case.ram_blocks))]


def fault_features(case: Case) -> Iterator[str]:
    """What fails: the step, its errno, how, and whether it is one of several."""
    for fault in case.fault_plan:
        yield f"fault: {fault.step}, {fault.when}{', for good' if fault.persistent else ''}"
        yield f"fault: {fault.step} with {fault.errno}"
        if fault.nth > 1:
            yield f"fault: {fault.step}, not the first"
    if len(case.fault_plan) > 1:
        yield "fault: several"
    if case.kernel_fault is not None:
        when = "before the call" if not case.kernel_fault.at else "in the call"
        yield f"kernel: {case.kernel_fault.kind.replace('_', ' ')}, {when}"


_ACTIONS = {Call: "call again", End: "end a mapping", Change: "change memory", Drop: "drop a RAM block", Fork: "fork"}


def _calls(case: Case) -> Iterator[str]:
    for action in case.sequence:
        yield f"sequence: {_ACTIONS[type(action)]}"
    if case.concurrent:
        calls: tuple[Case | Call, ...] = (case, *case.concurrent)
        same = {frozenset(s.block for s in call.iovec) for call in calls}
        yield f"threads: {'one block' if len(same) == 1 else 'several blocks'}"
    if case.earlier:
        yield "earlier calls"
