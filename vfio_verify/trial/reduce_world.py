"""Simpler worlds: fewer devices, regions, areas and RAM blocks, plainer ones, and lower numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.values.case import HUGE_PAGE, PAGE, Area, Call, Case, Change, Device, Drop, RamBlock, Region, Segment
from vfio_verify.values.cost import defaults_of, odd_fields
from vfio_verify.values.space import actions_of, with_actions

_MOST_NUMBERS = 24
"""Where there are more different sizes and offsets, they are not lowered together."""


def unit_of(case: Case) -> int:
    """The bytes that sizes and offsets are multiples of, where they are not odd."""
    huge = case.kernel_fault is not None and case.kernel_fault.kind == "hugetlb"
    return HUGE_PAGE if huge else case.page_size


# ---- fewer things ---------------------------------------------------------------------------------------------


def without_unused(case: Case) -> Iterator[Case]:
    """What no segment names is dropped: first all of it, then block by block, region by region, device by device."""
    used = {s.block for iovec in iovecs(case) for s in iovec}
    used |= {action.block for action in case.sequence if isinstance(action, Change | Drop)}
    unused = [i for i in range(len(case.ram_blocks)) if i not in used]
    if unused:
        yield _without_empty_devices(_without_unnamed_regions(_without_blocks(case, set(unused))))
    for gone in ([unused] if len(unused) > 1 else []) + [[i] for i in unused]:
        yield _without_blocks(case, set(gone))
    yield _without_unnamed_regions(case)
    named = {(b.device, b.region) for b in case.ram_blocks}
    for i, device in enumerate(case.devices):
        for region in device.regions:
            if (i, region.index) not in named:
                rest = tuple(r for r in device.regions if r is not region)
                yield _with_device(case, i, replace(device, regions=rest))
        if all(b.device != i for b in case.ram_blocks):
            yield _without_device(case, i)


def _without_unnamed_regions(case: Case) -> Case:
    named = {(b.device, b.region) for b in case.ram_blocks}
    keep = [[r for r in d.regions if (i, r.index) in named] for i, d in enumerate(case.devices)]
    return replace(case, devices=tuple(replace(d, regions=tuple(k)) for d, k in zip(case.devices, keep, strict=True)))


def _without_empty_devices(case: Case) -> Case:
    for i in reversed(range(len(case.devices))):
        if all(b.device != i for b in case.ram_blocks):
            case = _without_device(case, i)
    return case


def blocks_of_devices(case: Case) -> Iterator[Case]:
    """Plain RAM and addresses in no block become a device's memory: one reason less to refuse them."""
    for number, block in enumerate(case.ram_blocks):
        if block.device is None:
            free = next(i for i in itertools.count() if all(r.index != i for d in case.devices[:1] for r in d.regions))
            region = Region(free, block.size or case.page_size)
            devices = case.devices or (Device(()),)
            first = replace(devices[0], regions=(*devices[0].regions, region))
            of_device = put_at(case.ram_blocks, number, RamBlock(0, free, 0))
            yield replace(case, devices=(first, *devices[1:]), ram_blocks=of_device)
    if case.ram_blocks and any(s.block is None for iovec in iovecs(case) for s in iovec):
        yield each_segment(case, lambda s: Segment(0, 0, s.length) if s.block is None else s)


def merged_devices(case: Case) -> Iterator[Case]:
    """The regions of one device go to another, under indexes that are free there."""
    for giver, taker in itertools.permutations(range(len(case.devices)), 2):
        taken = {region.index for region in case.devices[taker].regions}
        free = (index for index in itertools.count() if index not in taken)
        moved = {r.index: r.index if r.index not in taken else next(free) for r in case.devices[giver].regions}
        regions = (replace(r, index=moved[r.index]) for r in case.devices[giver].regions)
        wider = replace(case.devices[taker], regions=(*case.devices[taker].regions, *regions))
        blocks = tuple(
            replace(b, device=taker, region=moved[b.region]) if b.device == giver and b.region is not None else b
            for b in case.ram_blocks
        )
        yield _without_device(replace(_with_device(case, taker, wider), ram_blocks=blocks), giver)


def swapped_blocks(case: Case) -> Iterator[Case]:
    """The regions of a device are sorted by index; two RAM blocks change places, or two devices."""
    for i, device in enumerate(case.devices):
        yield _with_device(case, i, replace(device, regions=tuple(sorted(device.regions, key=lambda r: r.index))))
    for one, other in itertools.combinations(range(len(case.ram_blocks)), 2):
        order = list(range(len(case.ram_blocks)))
        order[one], order[other] = other, one
        yield _renumbered(replace(case, ram_blocks=tuple(case.ram_blocks[i] for i in order)), dict(enumerate(order)))
    for one, other in itertools.combinations(range(len(case.devices)), 2):
        swap = {one: other, other: one}
        devices = tuple(case.devices[swap.get(i, i)] for i in range(len(case.devices)))
        blocks = tuple(
            b if b.device is None else replace(b, device=swap.get(b.device, b.device)) for b in case.ram_blocks
        )
        yield replace(case, devices=devices, ram_blocks=blocks)


# ---- plainer things -----------------------------------------------------------------------------------------


def defaults(case: Case) -> Iterator[Case]:
    """Fields that are not structure get their defaults: first all of a device, then those of each thing, then one by
    one. A new field of a case needs nothing more to be reset here and to be counted in the cost."""
    yield from _reset(case)
    for i, device in enumerate(case.devices):
        yield _with_device(case, i, _plain_device(device))
        yield _with_device(case, i, replace(device, regions=_plain_device(device).regions))
        for plain in _reset(device):
            yield _with_device(case, i, plain)
        for region in device.regions:
            for plainer in _reset(region):
                yield with_region(case, i, region, plainer)
    for i, block in enumerate(case.ram_blocks):
        for plain in _reset(block):
            yield replace(case, ram_blocks=put_at(case.ram_blocks, i, plain))


def _plain_device(device: Device) -> Device:
    regions = tuple(next(_reset(region), region) for region in device.regions)
    return replace(next(_reset(device), device), regions=regions)


def _reset(part: Any) -> Iterator[Any]:
    """The part with its odd fields at their defaults, first all of them, then each. Numbers also become lower."""
    odd, plain = odd_fields(part), defaults_of(part.__class__)
    for names in ([odd] if len(odd) > 1 else []) + [[name] for name in odd]:
        yield replace(part, **{name: plain[name] for name in names})
    for name in odd:
        value = getattr(part, name)
        if isinstance(value, int) and not isinstance(value, bool):
            yield from (replace(part, **{name: less}) for less in lower(value, PAGE))


def pages_of_this_machine(case: Case) -> Iterator[Case]:
    """Pages become smaller and stay as many: what ends in the middle of a page still does."""
    unit = case.page_size
    if unit > PAGE:

        def scaled(number: int) -> int:
            odd = number % unit
            return number // unit * PAGE + (max(1, odd * PAGE // unit) if odd else 0)

        yield _each_number(replace(case, page_size=PAGE), scaled)


def lower_indexes(case: Case) -> Iterator[Case]:
    """A region gets a lower index."""
    for i, device in enumerate(case.devices):
        taken = {region.index for region in device.regions}
        for region in device.regions:
            for index in lower(region.index):
                if index not in taken:
                    yield with_region(case, i, region, replace(region, index=index))


def simpler_areas(case: Case) -> Iterator[Case]:
    """A region has no areas, fewer, smaller ones, or some at lower offsets."""
    for i, device in enumerate(case.devices):
        for region in device.regions:
            if region.areas is not None:
                for simpler in _area_candidates(region, region.areas, unit_of(case)):
                    yield with_region(case, i, region, simpler)


def _area_candidates(region: Region, areas: tuple[Area, ...], unit: int) -> Iterator[Region]:
    yield replace(region, areas=None)
    for kept in subsets(areas):
        if kept:
            yield replace(region, areas=kept, size=kept[-1].offset + kept[-1].size)
            yield replace(region, areas=kept)
    packed = tuple(Area((2 * i + 1) * unit, unit) for i in range(len(areas)))
    yield replace(region, areas=packed, size=2 * len(packed) * unit)
    for i, area in enumerate(areas):
        for size in (whole(area.size, unit), *lower(area.size, unit)):
            if size:
                yield replace(region, areas=put_at(areas, i, replace(area, size=size)))
                yield _shifted(region, i, replace(area, size=size))
        before = areas[i - 1].offset + areas[i - 1].size if i else 0
        for offset in (before, before + unit):
            if offset < area.offset:
                yield replace(region, areas=put_at(areas, i, replace(area, offset=offset)))
                yield _shifted(region, i, replace(area, offset=offset))


def _shifted(region: Region, position: int, area: Area) -> Region:
    """The region with an area that ends sooner, and all that follows it nearer by as much."""
    assert region.areas is not None
    old = region.areas[position]
    down = old.offset + old.size - area.offset - area.size
    later = tuple(replace(a, offset=a.offset - down) for a in region.areas[position + 1 :])
    return replace(region, areas=(*region.areas[:position], area, *later), size=max(region.size - down, area.size))


def blocks_cut_at_the_start(case: Case) -> Iterator[Case]:
    """A block loses its first pages: what lies after them is nearer to its start by as much."""
    unit = unit_of(case)
    for number, block in enumerate(case.ram_blocks):
        offsets = {s.offset // unit for iovec in iovecs(case) for s in iovec if s.block == number}
        for pages in sorted(offsets - {0}, reverse=True):
            for cut in dict.fromkeys((pages, 1)):
                shorter = _ending_sooner(case, block, cut * unit)
                if shorter is not None:
                    yield each_segment(shorter, _nearer_in(number, cut * unit))


def _nearer_in(block: int, by: int) -> Callable[[Segment], Segment]:
    return lambda s: replace(s, offset=s.offset - by) if s.block == block and s.offset >= by else s


def _ending_sooner(case: Case, block: RamBlock, by: int) -> Case | None:
    """The case with so many bytes less in a block and in its region; None where that leaves nothing."""
    if block.device is None:
        smaller = replace(block, size=(block.size or 0) - by)
        return replace(case, ram_blocks=tuple(smaller if b is block else b for b in case.ram_blocks))
    region = next(r for r in case.devices[block.device].regions if r.index == block.region)
    if region.size <= by or block.area is None:
        return None
    if region.areas is None:
        return with_region(case, block.device, region, replace(region, size=region.size - by))
    area = region.areas[block.area]
    if area.size <= by:
        return None
    return with_region(case, block.device, region, _shifted(region, block.area, replace(area, size=area.size - by)))


def areas_as_regions(case: Case) -> Iterator[Case]:
    """Each area of a region becomes a region of its own."""
    for i, device in enumerate(case.devices):
        for region in device.regions:
            if region.areas is None or len(region.areas) < 2:
                continue
            taken = {other.index for other in device.regions if other is not region}
            free = (index for index in itertools.count() if index not in taken)
            apart = [replace(region, index=next(free), size=area.size, areas=None) for area in region.areas]
            regions = (*(other for other in device.regions if other is not region), *apart)
            blocks = tuple(
                replace(b, region=apart[b.area].index, area=0)
                if (b.device, b.region) == (i, region.index) and b.area is not None
                else b
                for b in case.ram_blocks
            )
            yield replace(_with_device(case, i, replace(device, regions=regions)), ram_blocks=blocks)


def smaller_blocks(case: Case) -> Iterator[Case]:
    """Regions and plain RAM get whole pages, and fewer of them."""
    unit = unit_of(case)
    for i, device in enumerate(case.devices):
        for region in device.regions:
            for size in (whole(region.size, unit), *lower(region.size, unit, 2 * unit, 4 * unit)):
                if size:
                    yield with_region(case, i, region, replace(region, size=size))
    for i, block in enumerate(case.ram_blocks):
        for size in (whole(block.size or 0, unit), *lower(block.size or 0, unit)):
            if size:
                yield replace(case, ram_blocks=put_at(case.ram_blocks, i, replace(block, size=size)))


def whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def numbers_lowered_together(case: Case) -> Iterator[Case]:
    """All sizes and offsets from one on become lower by as much: a segment that must be longer than its area cannot
    become shorter before the area does, nor the area before the segment."""
    unit = unit_of(case)
    numbers: set[int] = {0}

    def gathered(number: int) -> int:
        numbers.add(number // unit)
        return number

    _each_number(case, gathered)
    if len(numbers) > _MOST_NUMBERS:
        return
    for below, first in reversed(list(itertools.pairwise(sorted(numbers)))):
        for new in lower(first - below):
            down = (first - below - new) * unit

            def lowered(number: int, least: int = first * unit, down: int = down) -> int:
                return number - down if number >= least else number

            yield _each_number(case, lowered)


def _each_number(case: Case, change: Callable[[int], int]) -> Case:
    """The case with every size and offset of its world and its segments changed."""
    unit = unit_of(case)

    def region(old: Region) -> Region:
        areas = old.areas and tuple(Area(change(a.offset), change(a.size) or unit) for a in old.areas)
        return replace(old, size=change(old.size) or unit, areas=areas)

    devices = tuple(replace(d, regions=tuple(map(region, d.regions))) for d in case.devices)
    blocks = tuple(b if b.size is None else replace(b, size=change(b.size) or unit) for b in case.ram_blocks)
    world = replace(case, devices=devices, ram_blocks=blocks)
    return each_segment(world, lambda s: Segment(s.block, change(s.offset), change(s.length)))


# ---- building blocks ------------------------------------------------------------------------------------------


def subsets(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The items without some of them: without all, without each half, each quarter, down to each single one."""
    if not items:
        return
    yield ()
    size = len(items) // 2
    while size:
        for start in range(0, len(items), size):
            kept = items[:start] + items[start + size :]
            if kept:
                yield kept
        size //= 2


def lower(number: int, unit: int = 1, *first: int) -> Iterator[int]:
    """Lower numbers, odd by as much: the lowest first, then those that take away ever fewer units. The least that will
    do is found in some dozen steps, not unit by unit."""
    odd = number % unit
    by_steps = (number - (unit << shift) for shift in reversed(range((number // unit).bit_length())))
    halved = number // (2 * unit) * unit + odd
    for candidate in dict.fromkeys((0, odd, unit, unit + odd, *first, halved, *by_steps)):
        if 0 <= candidate < number:
            yield candidate


def with_region(case: Case, device: int, before: Region, after: Region) -> Case:
    """The case with another region in the place of one. Its RAM blocks follow; where two now have one area, the first
    stays."""
    regions = tuple(after if r is before else r for r in case.devices[device].regions)
    changed = _with_device(case, device, replace(case.devices[device], regions=regions))
    blocks = tuple(_follow(b, device, before, after) for b in case.ram_blocks)
    place: dict[RamBlock, int] = {}
    number: dict[int, int] = {}
    kept: list[RamBlock] = []
    for i, block in enumerate(blocks):
        if block.device == device and block.region == after.index and block in place:
            number[i] = place[block]
            continue
        number[i] = place[block] = len(kept)
        kept.append(block)
    if len(kept) == len(blocks):
        return replace(changed, ram_blocks=blocks)
    return _renumbered(replace(changed, ram_blocks=tuple(kept)), number)


def with_room(case: Case, segment: Segment) -> Case:
    """The case with a region, or its last area, as large as a segment needs it to be."""
    block = None if segment.block is None else case.ram_blocks[segment.block]
    region = None if segment.block is None else case.region_of(segment.block)
    end = segment.offset + segment.length
    if block is None or region is None or block.device is None or end > 1 << 40:
        return case
    if region.areas is None:
        larger = replace(region, size=max(region.size, end))
    else:
        *others, last = region.areas
        last = replace(last, size=max(last.size, end))
        larger = replace(region, areas=(*others, last), size=max(region.size, last.offset + last.size))
    return with_region(case, block.device, region, larger)


def _follow(block: RamBlock, device: int, before: Region, after: Region) -> RamBlock:
    """A RAMBlock of a region that changed: its new index, and its area's new position if it still exists."""
    if block.device != device or block.region != before.index or block.area is None:
        return block
    old, new = before.mmap_areas(), after.mmap_areas()
    if len(old) == len(new):
        position = block.area
    else:
        position = new.index(old[block.area]) if old[block.area] in new else min(block.area, len(new) - 1)
    return replace(block, region=after.index, area=position)


def _with_device(case: Case, position: int, device: Device) -> Case:
    return replace(case, devices=put_at(case.devices, position, device))


def _without_blocks(case: Case, gone: set[int]) -> Case:
    kept = [i for i in range(len(case.ram_blocks)) if i not in gone]
    blocks = tuple(case.ram_blocks[i] for i in kept)
    return _renumbered(replace(case, ram_blocks=blocks), {old: new for new, old in enumerate(kept)})


def _renumbered(case: Case, number: dict[int, int]) -> Case:
    """The case with RAM blocks named by their new numbers."""
    sequence = tuple(
        replace(action, block=number[action.block]) if isinstance(action, Change | Drop) else action
        for action in case.sequence
    )
    case = replace(case, sequence=sequence)
    return each_segment(case, lambda s: s if s.block is None else replace(s, block=number[s.block]))


def _without_device(case: Case, position: int) -> Case:
    def renumber(block: RamBlock) -> RamBlock:
        if block.device is None or block.device < position:
            return block
        return replace(block, device=block.device - 1)

    devices = case.devices[:position] + case.devices[position + 1 :]
    return replace(case, devices=devices, ram_blocks=tuple(map(renumber, case.ram_blocks)))


def iovecs(case: Case) -> list[tuple[Segment, ...]]:
    """The iovecs of all calls of a case."""
    own = [action.iovec for action in actions_of(case) if isinstance(action, Call)]
    return [*own, *(call.iovec for call in case.concurrent)]


def each_segment(case: Case, change: Callable[[Segment], Segment]) -> Case:
    """The case with every segment of every call changed. Each total stays off by as much as it was."""

    def changed(call: Call) -> Call:
        iovec = tuple(map(change, call.iovec))
        return replace(call, iovec=iovec, total_size=total_like(call, iovec))

    actions = [changed(action) if isinstance(action, Call) else action for action in actions_of(case)]
    return with_actions(replace(case, concurrent=tuple(map(changed, case.concurrent))), actions)


def total_like(call: Call | Case, iovec: tuple[Segment, ...]) -> int:
    """The total for another iovec, off by as much as this call's own."""
    off_by = call.total_size - sum(s.length for s in call.iovec)
    return max(0, sum(s.length for s in iovec) + off_by) % (1 << 64)


def with_iovec(case: Case, iovec: tuple[Segment, ...]) -> Case:
    """The case with other segments, and a total that is off by as much as it was."""
    return replace(case, iovec=iovec, total_size=total_like(case, iovec))


def put_at(items: tuple[Any, ...], position: int, item: Struct) -> tuple[Any, ...]:
    """The items with another one at a position."""
    return (*items[:position], item, *items[position + 1 :])
