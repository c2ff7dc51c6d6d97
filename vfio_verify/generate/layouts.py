"""Makes cases: a world (devices, regions, areas), and in it a well-formed iovec that is broken in no, one or two ways.

Most cases are small; a few have hundreds of segments, or lengths of several GiB. The makers ask a `Choices` for small
integers, of which the lowest is always the simplest. vfio_verify/generate/strategies.py takes them from Hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.values.case import (
    MAX_FILES,
    PAGE,
    REGION_SHIFT,
    Area,
    Case,
    Device,
    Kernel,
    MmapRule,
    Msix,
    RamBlock,
    Region,
    Segment,
    Variables,
    check,
)

T = TypeVar("T")
GIB = 1 << 30
U64 = 1 << 64


class Choices(Protocol):
    """A source of decisions."""

    def integer(self, low: int, high: int) -> int:
        """A number between both bounds, which are included; `low` is the simplest."""


def pick(choices: Choices, options: Sequence[T]) -> T:
    """One of several; the first is the simplest."""
    return options[choices.integer(0, len(options) - 1)]


# ---- worlds -------------------------------------------------------------------------------------------------

_INDEXES = (0, 2, 1, 4, 5, 8, 9, 15, 63, 300)


def _region(choices: Choices, index: int, unit: int) -> Region:
    """A region of some pages, or of some GiB; whole, or with one to three areas and holes between them."""
    n_areas = pick(choices, (0, 0, 0, 1, 2, 3))
    writable = pick(choices, (True, True, True, False))
    short = pick(choices, (*(0,) * 9, PAGE - 0x100, PAGE // 2, 1))  # of whole pages
    if not n_areas:
        region = Region(index, choices.integer(1, 16) * unit - short, None, writable)
        msix: Msix | None = pick(choices, (*(None,) * 5, "mappable", "cut"))
        return _without_table(choices, region) if msix == "cut" else replace(region, msix=msix)
    areas, end = [], 0
    for _ in range(n_areas):
        hole, size = choices.integer(0, 3) * PAGE, choices.integer(1, 8) * unit
        areas.append(Area(end + hole, size))
        end += hole + size
    areas[-1] = replace(areas[-1], size=areas[-1].size - short)
    behind = choices.integer(0, 2) * PAGE
    return Region(index, end + (behind or -short), tuple(areas), writable)


def _without_table(choices: Choices, region: Region) -> Region:
    """The region as QEMU maps it where the MSI-X table may not be: without the table's pages, of which it has some."""
    pages = -(-region.size // PAGE)
    if pages < 2:
        return region
    start = choices.integer(0, min(pages, 64) - 1)
    end = min(start + choices.integer(1, 2), pages) if start else 1
    pieces = ((0, start * PAGE), (end * PAGE, region.size))
    return replace(region, msix="cut", areas=tuple(Area(a, b - a) for a, b in pieces if a < b))


def _device(choices: Choices, unit: int) -> Device:
    first = choices.integer(0, len(_INDEXES) - 1)
    indexes = [_INDEXES[first]]
    if choices.integer(0, 1):
        indexes.append(_INDEXES[(first + choices.integer(1, len(_INDEXES) - 1)) % len(_INDEXES)])
    regions = tuple(_region(choices, index, unit) for index in sorted(indexes))
    descriptors = pick(choices, ("one", "one", "one", "duplicates", "files"))
    own_fds, own_files = descriptors != "one", descriptors == "files"
    if choices.integer(0, 3) == 3:
        regions = _placed(choices, regions, apart=own_files)
    return Device(regions, pick(choices, _RULES[own_fds]), own_fds, own_files)


_RULES: dict[bool, tuple[MmapRule, ...]] = {False: ("region", "areas"), True: ("region", "areas", "file", "file")}
_GAPS = (0, PAGE, 5 * PAGE, 1 << 21, (1 << 32) + PAGE)


def _placed(choices: Choices, regions: tuple[Region, ...], *, apart: bool) -> tuple[Region, ...]:
    """The regions somewhere in their file, the last index first or last; or each anywhere in one of its own."""
    at, placed = 0, []
    for region in regions[:: pick(choices, (1, -1))]:
        offset = pick(choices, _GAPS) + (0 if apart else at)
        placed.append(replace(region, offset=offset))
        at = offset + -(-region.size // PAGE) * PAGE
    return tuple(sorted(placed, key=lambda region: region.index))


def _apart(regions: tuple[Region, ...]) -> tuple[Region, ...]:
    """Regions of which one has grown: what has a place behind it in the file makes room."""
    at, moved = 0, dict[int, Region]()
    for region in sorted(regions, key=lambda region: region.offset or 0):
        if region.offset is not None:
            offset = max(at, region.offset)
            moved[region.index] = replace(region, offset=offset)
            at = offset + -(-region.size // PAGE) * PAGE
    return tuple(moved.get(region.index, region) for region in regions)


def _blocks(devices: Sequence[Device]) -> tuple[RamBlock, ...]:
    """A RAMBlock for each mmap area."""
    return tuple(
        RamBlock(number, region.index, area)
        for number, device in enumerate(devices)
        for region in device.regions
        for area in range(len(region.mmap_areas()))
    )


# ---- iovecs ---------------------------------------------------------------------------------------------------

_UP_TO_MANY = (1, 2, 3, 4, 5, 6, 7, 16, 24, 33, 64, 65, 130, 257, 300)
"""Few are among them so that a case with many shrinks to one with few, and not from one kind of case to another."""


def _segments(choices: Choices, block: int, size: int, count: int) -> tuple[Segment, ...]:
    """Page-aligned pieces of one RAMBlock, in any order, overlapping or repeated as it comes."""
    pages = size // PAGE
    if count > 24:  # a stride through the block
        step, length = choices.integer(0, 3), choices.integer(1, min(pages, 3))
        spread = pages - length + 1
        return tuple(Segment(block, (i * step) % spread * PAGE, length * PAGE) for i in range(count))
    pieces = []
    for _ in range(count):
        offset = choices.integer(0, pages - 1)
        length = choices.integer(1, min(pages - offset, 4))
        pieces.append(Segment(block, offset * PAGE, length * PAGE))
    return tuple(pieces)


def pieces_of(choices: Choices, case: Case, block: int) -> tuple[Segment, ...]:
    """A few page-aligned pieces of a RAMBlock."""
    return _segments(choices, block, case.block_size(block), choices.integer(1, 4))


def _long_segment(choices: Choices, block: int, size: int) -> Segment:
    """One of more than 2 or 4 GiB, as far as the block has them."""
    offset = min(choices.integer(0, 2) * PAGE, size - PAGE)
    length = pick(choices, (2 * GIB, 4 * GIB, 4 * GIB + PAGE, 6 * GIB))
    return Segment(block, offset, min(length, size - offset))


def _with_long_segments(choices: Choices, block: int, size: int) -> tuple[Segment, ...]:
    """Long segments and short ones: the sum passes 2 or 4 GiB at the end of the list, or in its middle."""
    iovec = _segments(choices, block, size, choices.integer(0, 2))
    for _ in range(choices.integer(1, 2)):
        long = _long_segment(choices, block, size)
        iovec = (*iovec, long, *_segments(choices, block, size, choices.integer(0, 1)))
    return iovec


def well_formed(choices: Choices) -> Case:
    """A case that must be mapped: aligned pieces of one RAMBlock that add up."""
    kind = choices.integer(0, 63)
    unit = GIB if kind >= 60 else PAGE
    devices = tuple(_device(choices, unit) for _ in range(1 + choices.integer(0, 1)))
    blocks = _blocks(devices)
    if choices.integer(0, 3) == 3:
        blocks = (blocks[0], *(replace(block, touches=True) for block in blocks[1:]))
    block = choices.integer(0, len(blocks) - 1)
    base = Case(devices, blocks, (), 0, errp=pick(choices, (*("object",) * 7, "null")))
    size = base.block_size(block)
    if unit == GIB:
        iovec = _with_long_segments(choices, block, size)
    else:
        count = pick(choices, _UP_TO_MANY) if kind in (57, 58, 59) else choices.integer(1, 6)
        iovec = _segments(choices, block, size, count)
    return replace(base, iovec=iovec, total_size=sum(s.length for s in iovec))


def larger_than(memory: int) -> Case:
    """A well-formed case whose total is a power of two of more than `memory` bytes, and 64 GiB at least; a RAMBlock
    is as large as a region can be, and repeated."""
    total = 1 << max(36, memory.bit_length())
    length = min(total, 1 << 40)
    return _of_one_block(length, (Segment(0, 0, length),) * (total // length), total)


def off_by_4_gib() -> Case:
    """A page, and a total that says the same in its lower 32 bits alone: of what is drawn, one layout in 500 does."""
    return _of_one_block(PAGE, (Segment(0, 0, PAGE),), PAGE + (1 << 32))


def sums_past_4_gib() -> Case:
    """A list whose sum passes 2 GiB and 4 GiB in the middle, with a page before and after each: a prefix that is kept
    in an `int`, or in 32 bits, puts the pages behind it elsewhere, though the total may be right."""
    page, long = Segment(0, PAGE, PAGE), Segment(0, 0, 2 * GIB)
    return _of_one_block(2 * GIB, (page, long, page, long, page), 4 * GIB + 3 * PAGE)


def ends_past_4_gib() -> Case:
    """A segment that ends far behind its block, though the lower 32 bits of its end say a page inside: the device would
    map all of it. Of what is drawn, one layout in thousands has that."""
    region = Region(0, 8 * GIB, areas=(Area(0, 4 * PAGE),))
    iovec = (Segment(0, 0, PAGE), Segment(0, PAGE, PAGE + 4 * GIB))
    return Case((Device((region,)),), (RamBlock(0, 0, 0),), iovec, 2 * PAGE + 4 * GIB)


def _of_one_block(size: int, iovec: tuple[Segment, ...], total: int) -> Case:
    return Case((Device((Region(0, size),)),), (RamBlock(0, 0, 0),), iovec, total)


# ---- malformations -----------------------------------------------------------------------------------------------


def _replace(case: Case, iovec: Sequence[Segment]) -> Case:
    """Other segments, and a total that agrees with them as the old one did with the old ones."""
    off_by = case.total_size - sum(s.length for s in case.iovec)
    fitting = tuple(s if s.length < U64 else replace(s, length=U64 - 1) for s in iovec)
    return replace(case, iovec=fitting, total_size=(sum(s.length for s in fitting) + off_by) % U64)


def _at(choices: Choices, case: Case, change: Callable[[Segment], Segment]) -> Case:
    """The last segment changed, or any one, or all from one on."""
    if not case.iovec:
        return case
    last = len(case.iovec) - 1
    kind = choices.integer(0, 3)
    first = last if kind == 0 else choices.integer(0, last)
    end = last + 1 if kind == 3 else first + 1
    return _replace(case, [change(s) if first <= i < end else s for i, s in enumerate(case.iovec)])


def _in_block(case: Case, segment: Segment) -> int:
    """Where the memory around a segment ends, as an offset like the segment's own."""
    return segment.offset + 1 if segment.block is None else case.block_size(segment.block)


def _other_block(choices: Choices, case: Case) -> Case:
    others = [i for i in range(len(case.ram_blocks)) if all(s.block != i for s in case.iovec)]
    if not others:
        case = replace(case, ram_blocks=(*case.ram_blocks, RamBlock(size=4 * PAGE)))
        others = [len(case.ram_blocks) - 1]
    block = pick(choices, others)
    size = case.block_size(block)

    def move(s: Segment) -> Segment:
        return Segment(block, min(s.offset, (size - 1) // PAGE * PAGE), min(s.length, size))

    moved = _at(choices, case, move)
    return _replace(moved, [_fitted(moved, s) for s in moved.iovec])


def _fitted(case: Case, segment: Segment) -> Segment:
    size = _in_block(case, segment)
    if segment.block is None or segment.length > size or segment.offset + segment.length <= size:
        return segment
    return replace(segment, offset=(size - segment.length) // PAGE * PAGE)


def _next_block(choices: Choices, case: Case) -> Case:
    """On into the RAMBlock that begins where that of the last segment ends: in the same segment, or in one more."""
    if not case.iovec or case.iovec[-1].block is None:
        return case
    last = case.iovec[-1]
    block = last.block
    assert block is not None
    if block + 1 == len(case.ram_blocks):
        case = replace(case, ram_blocks=(*case.ram_blocks, RamBlock(size=4 * PAGE)))
    touching = replace(case.ram_blocks[block + 1], touches=True)
    case = replace(case, ram_blocks=(*case.ram_blocks[: block + 1], touching, *case.ram_blocks[block + 2 :]))
    more = min(choices.integer(1, 2) * PAGE, case.block_size(block + 1))
    left = case.block_size(block) - last.offset
    if choices.integer(0, 1):
        return _replace(case, (*case.iovec[:-1], replace(last, length=left + more)))
    return _replace(case, (*case.iovec[:-1], replace(last, length=left), Segment(block + 1, 0, more)))


def _other_device(choices: Choices, case: Case) -> Case:
    """The same area of a second device that is built like the first."""
    if not case.iovec or case.iovec[0].block is None or len(case.devices) > 2:
        return case
    block = case.ram_blocks[case.iovec[0].block]
    if block.device is None or 2 * sum(len(d.regions) for d in case.devices if d.region_files) > MAX_FILES:
        return case
    twin = RamBlock(len(case.devices), block.region, block.area)
    case = replace(case, devices=(*case.devices, case.devices[block.device]), ram_blocks=(*case.ram_blocks, twin))
    last = len(case.ram_blocks) - 1

    def move(s: Segment) -> Segment:
        return replace(s, block=last) if s.block == case.iovec[0].block else s

    return _at(choices, case, move)


def _plain_ram(choices: Choices, case: Case) -> Case:
    """One segment, or all of them, in plain RAM."""
    block = len(case.ram_blocks)
    largest = max((s.offset + s.length for s in case.iovec), default=PAGE)
    size = min(-(-largest // PAGE) * PAGE, 1 << 40)
    if any(s.offset >= size for s in case.iovec):
        return case
    case = replace(case, ram_blocks=(*case.ram_blocks, RamBlock(size=max(size, PAGE))))
    if choices.integer(0, 1):
        return _replace(case, [replace(s, block=block) for s in case.iovec])
    return _at(choices, case, lambda s: replace(s, block=block))


def _nowhere(choices: Choices, case: Case) -> Case:
    if choices.integer(0, 1):
        return _replace(case, [Segment(None, s.offset % GIB, s.length) for s in case.iovec])
    return _at(choices, case, lambda s: Segment(None, s.offset % GIB, s.length))


def _past_the_end(choices: Choices, case: Case) -> Case:
    def run_past(s: Segment) -> Segment:
        by = pick(choices, (PAGE, 1, 2 * PAGE, 16 * PAGE))
        return replace(s, length=_in_block(case, s) - s.offset + by)

    return _at(choices, case, run_past)


def _past_the_area(choices: Choices, case: Case) -> Case:
    """Past a RAMBlock, but not past the region: a hole follows the area, or the next area. vfio-pci maps that."""
    if not case.iovec or (block := case.iovec[-1].block) is None:
        return case
    entry, region, area = case.ram_blocks[block], case.region_of(block), case.area_of(block)
    if entry.device is None or region is None or area is None:
        return case
    by = pick(choices, (PAGE, 2 * PAGE, 1))
    room = max(region.size, area.offset + area.size + 4 * PAGE)
    longer = replace(region, areas=region.mmap_areas(), size=room, msix=None)
    device = case.devices[entry.device]
    regions = _apart(tuple(longer if r is region else r for r in device.regions))
    changed = replace(device, regions=regions, mmap_rule="region")
    devices = (*case.devices[: entry.device], changed, *case.devices[entry.device + 1 :])
    case = replace(case, devices=devices)
    return _at(choices, case, lambda s: replace(s, length=_in_block(case, s) - s.offset + by))


def _far_past_the_end(choices: Choices, case: Case) -> Case:
    """So long that address, offset or sum wrap around 64 bits."""

    def run_past(s: Segment) -> Segment:
        down = pick(choices, (PAGE, 1, 2 * PAGE, GIB))
        return replace(s, length=U64 - down - pick(choices, (0, s.offset)))

    return _at(choices, case, run_past)


def _misaligned_length(choices: Choices, case: Case) -> Case:
    by = pick(choices, (1, PAGE - 1, PAGE // 2, 8))
    return _at(choices, case, lambda s: replace(s, length=max(1, s.length - by)))


def _misaligned_pair(choices: Choices, case: Case) -> Case:
    """Two neighbours whose misaligned lengths add up to whole pages again."""
    if len(case.iovec) < 2:
        return _misaligned_length(choices, case)
    i = choices.integer(0, len(case.iovec) - 2)
    by = pick(choices, (1, PAGE // 2, 8))
    first, second = case.iovec[i : i + 2]
    pair = (
        replace(first, length=max(1, first.length - by)),
        replace(second, length=second.length + by),
    )
    return _replace(case, (*case.iovec[:i], *pair, *case.iovec[i + 2 :]))


def _misaligned_base(choices: Choices, case: Case) -> Case:
    by = pick(choices, (1, 8, PAGE // 2, PAGE - 1))

    def shift(s: Segment) -> Segment:
        if s.offset + by >= _in_block(case, s) and s.block is not None:
            return s
        room = _in_block(case, s) - s.offset - by
        # One page less keeps the length aligned and inside the block, where there is a page to spare.
        length = s.length if s.length <= room or s.length <= PAGE else s.length - PAGE
        return Segment(s.block, s.offset + by, length)

    if choices.integer(0, 1):
        return _replace(case, [shift(s) for s in case.iovec])
    return _at(choices, case, shift)


def _empty_segment(choices: Choices, case: Case) -> Case:
    if not case.iovec:
        return case
    i = choices.integer(0, len(case.iovec))
    like = case.iovec[min(i, len(case.iovec) - 1)]
    return _replace(case, (*case.iovec[:i], replace(like, length=0), *case.iovec[i:]))


def _no_segments(choices: Choices, case: Case) -> Case:
    total = pick(choices, (PAGE, 0, 1))
    return replace(case, iovec=(), total_size=total)


def _wrong_total(choices: Choices, case: Case) -> Case:
    by = pick(choices, (PAGE, -PAGE, 1, -1, 2 * PAGE, -2 * PAGE, -PAGE, 1 << 32, -(1 << 32), 1 << 31, GIB, 196 - PAGE))
    return replace(case, total_size=max(0, case.total_size + by) % U64)


def _sum_overflows(choices: Choices, case: Case) -> Case:
    """Lengths that add up to 2**64 more than the total."""
    if not case.iovec:
        return case
    low = pick(choices, (PAGE, 2 * PAGE))
    huge = replace(case.iovec[-1], length=U64 - low)
    iovec = (*case.iovec, replace(huge, length=low), huge)
    return replace(case, iovec=iovec, total_size=sum(s.length for s in case.iovec) % U64)


MALFORMATIONS: dict[str, Callable[[Choices, Case], Case]] = {
    "other block": _other_block,
    "next block": _next_block,
    "other device": _other_device,
    "plain RAM": _plain_ram,
    "no block": _nowhere,
    "past the end": _past_the_end,
    "past the area": _past_the_area,
    "far past the end": _far_past_the_end,
    "misaligned length": _misaligned_length,
    "misaligned pair": _misaligned_pair,
    "misaligned base": _misaligned_base,
    "empty segment": _empty_segment,
    "no segments": _no_segments,
    "wrong total": _wrong_total,
    "sum overflows": _sum_overflows,
}
"""Every way to break a well-formed case, by name."""


class Host(Struct, frozen=True):
    """What stays as it is while a helper's process lives: how large pages are, how the kernel answers, and how the
    helper is built."""

    page_size: int = PAGE
    kernel: Kernel = Kernel()
    variables: Variables = "pattern"


OTHER_HOSTS = (
    Host(variables="zero"),
    Host(kernel=Kernel(hints=False)),
    Host(16384),
    Host(kernel=Kernel(noreplace=False)),
    Host(kernel=Kernel(mremap_unmaps=True)),
    Host(65536),
    Host(kernel=Kernel(locks=False)),
)
"""Hosts that are not as most of ours are."""
_HOSTS = (*(Host(),) * 41, *OTHER_HOSTS)


def any_case(choices: Choices) -> Case:
    """A case without faults, on any host."""
    case = any_layout(choices)
    return on_host(choices, case, pick(choices, _HOSTS))


def any_layout(choices: Choices) -> Case:
    """A case on an ordinary host: well-formed half the time, else broken in one way or in two."""
    case = well_formed(choices)
    names = tuple(MALFORMATIONS)
    for _ in range(pick(choices, (0, 0, 1, 2))):
        case = MALFORMATIONS[pick(choices, names)](choices, case)
    return case


def on_host(choices: Choices, case: Case, host: Host) -> Case:
    """The case on another host. If that has larger pages, everything is as many times as large, or all but the
    segments: these are of 4 KiB then, as guests have them, and can mostly not be overlaid."""
    case = replace(case, kernel=host.kernel, variables=host.variables)
    by = host.page_size // PAGE
    if by < 2:
        return case
    of_the_guest = choices.integer(0, 3) == 3

    def scaled(number: int) -> int:
        return number * by if number < 1 << 48 else number

    larger = replace(
        case,
        devices=larger_devices(case, lambda number: number * by),
        ram_blocks=tuple(replace(b, size=b.size and b.size * by) for b in case.ram_blocks),
        page_size=host.page_size,
    )
    if not of_the_guest:
        larger = _replace(larger, [replace(s, offset=scaled(s.offset), length=scaled(s.length)) for s in case.iovec])
    sizes = [*(r.size for d in larger.devices for r in d.regions), *(b.size or 0 for b in larger.ram_blocks)]
    try:
        check(larger)
    except InputError:
        return case
    return larger if max(sizes) <= 1 << REGION_SHIFT else case


def larger_devices(case: Case, scale: Callable[[int], int]) -> tuple[Device, ...]:
    """The devices of a case with every offset and size in their regions scaled."""

    def region(r: Region) -> Region:
        areas = r.areas and tuple(Area(scale(a.offset), scale(a.size)) for a in r.areas)
        return replace(r, size=scale(r.size), areas=areas, offset=r.offset and scale(r.offset))

    return tuple(replace(d, regions=tuple(map(region, d.regions))) for d in case.devices)
