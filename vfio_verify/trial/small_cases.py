"""Small cases to try in the place of one that is small already: all those of a few shapes that cost less.

Reducers make a case simpler step by step. Where two things must change together they stop short, and where they stop
depends on the seed. What is left then is mostly a call or two of up to three segments. There are few enough of these to
try them all, the cheapest first, which ends in the same case wherever it began.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.trial.reduce_world import iovecs, total_like, unit_of
from vfio_verify.values.case import Area, Call, Case, Change, Device, Drop, Fault, RamBlock, Region, Segment, check
from vfio_verify.values.cost import cost, is_simpler, odd_fields, oddities, parts, sizes
from vfio_verify.values.model import expect
from vfio_verify.values.space import actions_of, alone, with_actions

_FEW_SEGMENTS = 3
_FEW_BLOCKS = 2
_MOST_ODD = 2
"""Segments that are not the first page of the first block."""
_MOST = 600
"""Cases that are tried in the place of one."""
_MOST_FRESH = 120
"""Cases that are tried where each needs a fresh process."""
_SIMPLEST = 8
"""Cases that are tried for each of several calls in worlds of their own."""

World = tuple[tuple[Device, ...], tuple[RamBlock, ...]]


def small_cases(like: Case) -> list[Case]:
    """Cases of as many calls that cost less than this one, the cheapest first. None where it has too many segments."""
    cases = _after_small_cases(like) if like.earlier else _alike(like, _Bound.of(like))
    most = _MOST_FRESH if like.earlier or like.sequence or like.concurrent else _MOST
    return sorted((case for case in cases if is_simpler(case, like)), key=cost)[:most]


def _alike(like: Case, bound: _Bound | None = None) -> set[Case]:
    """The small cases of as many calls, which must be refused for the same reasons; within a bound all of them."""
    counts = [len(iovec) for iovec in iovecs(like)]
    if sum(counts) > _FEW_SEGMENTS:
        return set()
    reasons = _reasons(like)
    return {
        candidate
        for layout in _layouts(like, counts, reasons, bound)
        if _is_possible(layout) and _reasons(layout) == reasons
        for world in dict.fromkeys((layout, _dressed(layout, like, devices=False), _dressed(layout, like)))
        for candidate in _with_faults(world, like, reasons)
    }


def _after_small_cases(like: Case) -> Iterator[Case]:
    """The case and those before it, which are all the same, among the simplest that are like them."""
    own = _simplest(replace(like, earlier=()))
    for before in dict.fromkeys(like.earlier):
        for early, late in itertools.product(_simplest(before), own):
            yield replace(late, earlier=(early,) * len(like.earlier))


def _simplest(like: Case) -> list[Case]:
    """One case for each world, and what else there is in the least of them."""
    cases = sorted(filter(_is_possible, _alike(like)), key=cost)
    of_world = {_shape(case): case for case in reversed(cases)}
    return [like, *sorted({*of_world.values(), *cases[:_SIMPLEST]}, key=cost)[: 2 * _SIMPLEST]]


def _shape(case: Case) -> tuple[str, tuple[RamBlock, ...]]:
    """A world but for its sizes."""
    regions = (
        [(r.index, r.areas and [area.offset > 0 for area in r.areas]) for r in device.regions]
        for device in case.devices
    )
    return repr(list(regions)), case.ram_blocks


def _reasons(case: Case) -> list[set[str]]:
    """Why each call must be refused. What shows the same violation has the same reasons."""
    calls = [action for action in actions_of(case) if isinstance(action, Call)]
    return [{refusal.clause for refusal in expect(alone(case, call)).refusals} for call in (*calls, *case.concurrent)]


def _is_possible(case: Case) -> bool:
    try:
        check(case)
    except InputError:
        return False
    return True


# ---- segments -----------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Where a segment lies: the block's number, and offset and length in bytes."""

    block: int | None
    offset: int
    length: int


class _Bound(NamedTuple):
    """What a case costs, as far as it is known of others before they are made. Most of them cost more."""

    segments: int
    things_and_oddities: int
    things: int
    sizes: tuple[Any, ...]

    @classmethod
    def of(cls, like: Case) -> _Bound | None:
        """None where a smaller case may have fewer faults, or is known by its other calls."""
        if like.sequence or like.concurrent or (like.fault_plan and expect(like).refusals):
            return None
        things = parts(like.devices, like.ram_blocks)
        return cls(len(like.iovec), things + oddities(like), things, sizes(like.iovec))

    def excludes(self, world: World, places: Sequence[_Place]) -> bool:
        """Whether every case of this world and these segments costs more."""
        odd = sum(region.index > 0 for device in world[0] for region in device.regions)
        things = parts(*world)
        least = (len(places), things + odd, things)
        own = self[:3]
        return least > own or (least == own and sizes(places) > self.sizes)


def _layouts(like: Case, counts: Sequence[int], reasons: list[set[str]], bound: _Bound | None) -> Iterator[Case]:
    """The calls of a case with other segments, in other worlds."""
    blocks_differ = ["SAME_BLOCK" in some for some in reasons]
    alphabet = _alphabet(like, nowhere=any(blocks_differ))
    fewer = range(counts[0] + 1) if len(counts) == 1 else (counts[0],)
    for first in fewer:
        of_calls = [first, *counts[1:]]
        most_odd = _MOST_ODD if bound is not None and first == counts[0] else 1
        for places in _arrangements(alphabet, sum(of_calls), most_odd):
            mixed = _are_mixed(places, of_calls)
            if any(are and not must for are, must in zip(mixed, blocks_differ, strict=True)):
                continue
            for world in _worlds(like, places, plain_ram=any(blocks_differ)):
                if bound is None or not bound.excludes(world, places):
                    yield from _calls(like, world, places, of_calls)


def _are_mixed(places: Sequence[_Place], counts: Sequence[int]) -> list[bool]:
    """For each call, whether its segments are in different blocks, or in none."""
    rest = iter(places)
    blocks = [{next(rest).block for _ in range(count)} for count in counts]
    return [len(some) > 1 or None in some for some in blocks]


def _alphabet(like: Case, *, nowhere: bool) -> list[_Place]:
    """Where segments may lie: in the first page, and where that deviates from it in the ways that the case's own do."""
    unit = unit_of(like)
    segments = [segment for iovec in iovecs(like) for segment in iovec]
    lengths = {unit, 2 * unit} | {s.length for s in segments if s.length % unit or not s.length}
    offsets = {0, unit} | {s.offset % unit for s in segments}
    blocks = range(max(1, min(len(like.ram_blocks), _FEW_BLOCKS)))
    places = [_Place(*place) for place in itertools.product(blocks, sorted(offsets), sorted(lengths))]
    if nowhere:
        places += [_Place(None, 0, length) for length in sorted(lengths - {2 * unit})]
    return sorted(places, key=lambda place: place != (0, 0, unit))


def _arrangements(alphabet: Sequence[_Place], count: int, most_odd: int) -> Iterator[tuple[_Place, ...]]:
    plain, *others = alphabet
    for odd in range(min(count, most_odd) + 1):
        for positions in itertools.combinations(range(count), odd):
            for chosen in itertools.product(others, repeat=odd):
                at = dict(zip(positions, chosen, strict=True))
                yield tuple(at.get(i, plain) for i in range(count))


def _calls(like: Case, world: World, places: Sequence[_Place], counts: Sequence[int]) -> Iterator[Case]:
    """The actions of the case on these places; totals are off by as much as its own are, or by a page."""
    rest = iter(places)
    iovecs_ = [tuple(Segment(*next(rest)) for _ in range(count)) for count in counts]
    new = iter(iovecs_)
    devices, blocks = world

    def moved(call: Call) -> Call:
        iovec = next(new)
        return replace(call, iovec=iovec, total_size=total_like(call, iovec))

    actions = [moved(action) if isinstance(action, Call) else action for action in actions_of(like)]
    if any(isinstance(action, Change | Drop) and action.block >= len(blocks) for action in actions):
        return
    concurrent = tuple(map(moved, like.concurrent))
    yield with_actions(replace(like, devices=devices, ram_blocks=blocks, concurrent=concurrent), actions)


# ---- worlds -------------------------------------------------------------------------------------------------


def _worlds(like: Case, places: Sequence[_Place], *, plain_ram: bool) -> Iterator[World]:
    """Worlds that hold these places, each block just as large as it must be, or a page less."""
    unit = unit_of(like)
    blocks = 1 + max((place.block for place in places if place.block is not None), default=-1)
    ends = [max((p.offset + p.length for p in places if p.block == block), default=0) for block in range(blocks)]
    needed = [min(max(-(-end // unit), 1), 4) for end in ends]
    for less in itertools.product((0, 1), repeat=blocks):
        sizes = [(size - by) * unit for size, by in zip(needed, less, strict=True)]
        if 0 not in sizes:
            match sizes:
                case []:
                    yield (), ()
                    yield from _of_one_block(like, unit, unit)
                case [size]:
                    yield from _of_one_block(like, unit, size)
                case [first, second]:
                    yield from _of_two_blocks(unit, first, second)
            if plain_ram and set(sizes) == {unit}:
                yield from _of_plain_ram(sizes)


def _of_plain_ram(sizes: Sequence[int]) -> Iterator[World]:
    """One of the blocks is plain RAM, or all of them are."""
    yield (), tuple(RamBlock(size=size) for size in sizes)
    if len(sizes) == 2:
        for number, size in enumerate(sizes):
            blocks = [RamBlock(size=size) for size in sizes]
            blocks[number] = RamBlock(0, 0, 0)
            yield (Device((Region(0, size),)),), tuple(blocks)


def _of_one_block(like: Case, unit: int, size: int) -> Iterator[World]:
    """A block of a whole region, of a region with a hole after it or before it, of the second area or region."""
    whole = Region(0, size)
    for region, area in (
        (whole, 0),
        *((Region(index, size), 0) for index in sorted({1, *(r.index for d in like.devices for r in d.regions)} - {0})),
        (Region(0, size + unit, (Area(0, size),)), 0),
        (Region(0, size + unit, (Area(unit, size),)), 0),
        (Region(0, size + unit, (Area(0, unit), Area(unit, size))), 1),
        (Region(0, size + 2 * unit, (Area(0, unit), Area(2 * unit, size))), 1),
    ):
        block = RamBlock(0, region.index, area)
        yield (Device((region,)),), (block,)
        if any(not device.regions for device in like.devices):
            yield (Device((region,)), Device(())), (block,)
            yield (Device(()), Device((region,))), (replace(block, device=1),)
    yield (Device((Region(0, unit), Region(1, size))),), (RamBlock(0, 1, 0),)


def _of_two_blocks(unit: int, first: int, second: int) -> Iterator[World]:
    """Two regions, two areas with a hole between them or none, two devices."""
    two = RamBlock(0, 0, 0), RamBlock(0, 0, 1)
    yield (Device((Region(0, first), Region(1, second))),), (RamBlock(0, 0, 0), RamBlock(0, 1, 0))
    yield (Device((Region(0, first), Region(1, second))),), (RamBlock(0, 1, 0), RamBlock(0, 0, 0))
    for hole in (0, unit):
        start = first + hole
        yield (Device((Region(0, start + second, (Area(0, first), Area(start, second))),)),), two
    yield (Device((Region(0, first),)), Device((Region(0, second),))), (RamBlock(0, 0, 0), RamBlock(1, 0, 0))


# ---- what the case keeps of its own -------------------------------------------------------------------------


def _dressed(layout: Case, like: Case, *, devices: bool = True) -> Case:
    """The layout with what is odd about the regions and blocks of the case and could not be taken away, and about its
    devices."""
    regions = [region for device in like.devices for region in device.regions]
    of_region, of_block = _oddities(regions), _oddities(like.ram_blocks)
    of_device = _oddities(like.devices) if devices else {}
    if not (of_region or of_device or of_block):
        return layout
    of_devices = tuple(
        replace(device, regions=tuple(replace(region, **of_region) for region in device.regions), **of_device)
        for device in layout.devices
    )
    return replace(layout, devices=of_devices, ram_blocks=tuple(replace(b, **of_block) for b in layout.ram_blocks))


def _oddities(parts: Sequence[Struct]) -> dict[str, Any]:
    return {name: getattr(part, name) for part in parts for name in odd_fields(part)}


def _with_faults(layout: Case, like: Case, reasons: list[set[str]]) -> Iterator[Case]:
    """The layout with the faults of the case, at any of its steps, and without them where there is another reason to
    refuse it."""
    if like.fault_plan and any(reasons):
        yield layout.without_faults()
    last = len(layout.iovec) + 1
    ways = [[replace(fault, nth=nth) for nth in range(1, max(2, last) + 1)] for fault in like.fault_plan]
    plans: Iterator[tuple[Fault, ...]] = itertools.product(*ways)
    for plan in plans:
        if like.kernel_fault is None:
            yield replace(layout, fault_plan=plan)
        else:
            for at in range(min(like.kernel_fault.at, last) + 1):
                yield replace(layout, fault_plan=plan, kernel_fault=replace(like.kernel_fault, at=at))
