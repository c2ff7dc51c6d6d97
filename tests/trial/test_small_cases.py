"""Whatever case shows a fault, shrinking ends in the same one: the least that the fault needs.

A fault is a condition on cases here, so that no process is needed and every start can be tried.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.generate.layouts import GIB
from vfio_verify.generate.packed import CASE_BYTES, SEQUENCE_BYTES, packed_case, packed_sequence
from vfio_verify.generate.strategies import cases
from vfio_verify.trial.minimize import minimal
from vfio_verify.trial.reduce_calls import alike_segments, evened_segments, joined_segments, swapped_segments
from vfio_verify.trial.reduce_world import (
    areas_as_regions,
    blocks_cut_at_the_start,
    blocks_of_devices,
    defaults,
    lower_indexes,
    merged_devices,
    numbers_lowered_together,
    pages_of_this_machine,
    simpler_areas,
)
from vfio_verify.trial.small_cases import small_cases
from vfio_verify.values.case import PAGE, Area, Call, Case, Device, Fault, RamBlock, Region, Segment, check
from vfio_verify.values.cost import cost, defaults_of
from vfio_verify.values.model import expect

STARTS = 4
"""Cases that each fault is shrunk from."""


class Found(NamedTuple):
    case: Case


class Trial:
    """In the place of a subject: a case shows the fault if it meets a condition."""

    is_spent = False

    def __init__(self, shows: Callable[[Case], bool], start: Case) -> None:
        self._shows = shows
        self.last = Found(start)
        self.tries = 0

    def accepts(self, case: Case) -> bool:
        self.tries += 1
        if self._shows(case):
            self.last = Found(case)
        return self._shows(case)

    def adapt(self, case: Case) -> Case:
        return case


def reasons(case: Case) -> set[str]:
    return {refusal.clause for refusal in expect(case).refusals}


def world(*regions: Region, **more: object) -> tuple[tuple[Device, ...], tuple[RamBlock, ...]]:
    blocks = tuple(RamBlock(0, r.index, i) for r in regions for i in range(len(r.mmap_areas())))
    return (Device(regions, **more),), blocks


def case(of: tuple[tuple[Device, ...], tuple[RamBlock, ...]], *segments: Segment, **more: object) -> Case:
    return Case(*of, segments, sum(s.length for s in segments), **more)


def page(number: int = 0, count: int = 1, block: int = 0) -> Segment:
    return Segment(block, number * PAGE, count * PAGE)


WHOLE = world(Region(0, PAGE))
ONE = case(WHOLE, page())


# ---- conditions: what a faulty subject gets wrong -----------------------------------------------------------

Condition = Callable[[Case], bool]


def condition(holds: Condition) -> Condition:
    """A case that lacks what a condition looks at does not meet it."""

    @functools.wraps(holds)
    def shows(c: Case) -> bool:
        try:
            return holds(c)
        except (AttributeError, IndexError, TypeError):
            return False

    return shows


@condition
def longer_than_its_area(c: Case) -> bool:
    """The bound of an unsigned difference that wraps: only what is longer than the whole area passes."""
    return reasons(c) == {"WITHIN_BLOCK"} and any(
        c.area_of(s.block).size < s.length
        and c.area_of(s.block).offset + s.offset + s.length <= c.region_of(s.block).size
        for s in c.iovec
        if c.area_of(s.block)
    )


@condition
def second_end_unchecked(c: Case) -> bool:
    late = replace(c, iovec=c.iovec[1:], total_size=sum(s.length for s in c.iovec[1:]))
    first = replace(c, iovec=c.iovec[:1], total_size=sum(s.length for s in c.iovec[:1]))
    return reasons(c) == {"WITHIN_BLOCK"} and not reasons(first) and longer_in_region(late)


def longer_in_region(c: Case) -> bool:
    return all(c.area_of(s.block).offset + s.offset + s.length <= c.region_of(s.block).size for s in c.iovec)


@condition
def in_an_area_at_an_offset(c: Case) -> bool:
    return not reasons(c) and c.area_of(c.iovec[0].block).offset > 0


@condition
def of_two_blocks(c: Case) -> bool:
    return reasons(c) == {"SAME_BLOCK"} and all(
        s.block is not None and c.ram_blocks[s.block].device is not None for s in c.iovec
    )


@condition
def in_descending_order(c: Case) -> bool:
    offsets = [s.offset for s in c.iovec]
    return not reasons(c) and any(a > b for a, b in itertools.pairwise(offsets))


@condition
def high_region(c: Case) -> bool:
    return not reasons(c) and any(r.index >= 9 for r in [c.region_of(c.iovec[0].block)])


@condition
def of_two_gib(c: Case) -> bool:
    return not reasons(c) and c.total_size >= 2 * GIB


@condition
def end_beyond_four_gib(c: Case) -> bool:
    return not reasons(c) and any(s.offset + s.length >= 4 * GIB for s in c.iovec)


@condition
def odd_lengths_that_add_up(c: Case) -> bool:
    return reasons(c) == {"ALIGNED"} and not any(n % c.page_size for n in (c.total_size, *(s.offset for s in c.iovec)))


@condition
def third_overlay_fails_late(c: Case) -> bool:
    """Only where the third overlay or a later one fails, after the driver's own step."""
    return not reasons(c) and any(
        f.step == "mmap" and f.when == "late" and 4 <= f.nth <= len(c.iovec) + 1 for f in c.fault_plan
    )


@condition
def wraps_around(c: Case) -> bool:
    return (
        sum(s.length for s in c.iovec) >> 64 == 1
        and sum(s.length for s in c.iovec) - c.total_size == 1 << 64
        and c.iovec[0].length < 1 << 62
    )


@condition
def seventeen_segments(c: Case) -> bool:
    return not reasons(c) and len(c.iovec) >= 17


@condition
def read_only_with_descriptors(c: Case) -> bool:
    device = c.devices[c.ram_blocks[c.iovec[0].block].device] if not reasons(c) else Device(())
    return device.region_fds and not c.region_of(c.iovec[0].block).writable


@condition
def second_call_on_another_block(c: Case) -> bool:
    """What the first call looked up is kept for the second."""
    calls = [c, *(a for a in c.sequence if isinstance(a, Call))]
    blocks = [[s.block for s in call.iovec] for call in calls]
    ok = all(not reasons(replace(c, iovec=call.iovec, total_size=call.total_size, sequence=())) for call in calls)
    return ok and any(a[0] != b[0] for a, b in itertools.pairwise(blocks))


@condition
def second_call_longer(c: Case) -> bool:
    calls = [a for a in c.sequence if isinstance(a, Call)]
    ok = all(not reasons(replace(c, iovec=call.iovec, total_size=call.total_size, sequence=())) for call in (c, *calls))
    return ok and any(len(c.iovec) < len(call.iovec) for call in calls)


@condition
def after_another_block(c: Case) -> bool:
    return not reasons(c) and any(
        not reasons(e) and e.ram_blocks[e.iovec[0].block] != c.ram_blocks[c.iovec[0].block] for e in c.earlier
    )


FAULTS = {
    longer_than_its_area: case(world(Region(0, 2 * PAGE, (Area(0, PAGE),))), page(0, 2)),
    second_end_unchecked: case(world(Region(0, 2 * PAGE, (Area(0, PAGE),))), page(), page(0, 2)),
    in_an_area_at_an_offset: case(world(Region(0, 2 * PAGE, (Area(PAGE, PAGE),))), page()),
    of_two_blocks: case(world(Region(0, PAGE), Region(1, PAGE)), page(), page(block=1)),
    in_descending_order: case(world(Region(0, 2 * PAGE)), page(1), page()),
    high_region: case(world(Region(9, PAGE)), page()),
    of_two_gib: case(world(Region(0, 2 * GIB)), Segment(0, 0, 2 * GIB)),
    end_beyond_four_gib: case(world(Region(0, 4 * GIB)), Segment(0, 0, 4 * GIB)),
    odd_lengths_that_add_up: case(WHOLE, Segment(0, 0, PAGE // 2), Segment(0, 0, PAGE // 2)),
    third_overlay_fails_late: case(WHOLE, page(), page(), page()).with_faults(Fault("mmap", 4, when="late")),
    wraps_around: replace(case(WHOLE, page(), Segment(0, 0, (1 << 64) - PAGE)), total_size=0),
    seventeen_segments: case(WHOLE, *[page()] * 17),
    read_only_with_descriptors: case(world(Region(0, PAGE, writable=False), region_fds=True), page()),
    second_call_on_another_block: case(
        world(Region(0, PAGE), Region(1, PAGE)), page(block=1), sequence=(Call((page(),), PAGE),)
    ),
    second_call_longer: case(WHOLE, page(), sequence=(Call((page(), page()), 2 * PAGE),)),
    after_another_block: case(world(Region(1, PAGE)), page(), earlier=(ONE,)),
}
"""Conditions, and what shrinking must end in."""


def drawn(shows: Condition, rng: random.Random) -> Case:
    start = packed_case(rng.randbytes(CASE_BYTES))
    match shows.__name__.partition("_")[0]:
        case "third":
            nth = rng.randint(1, len(start.iovec) + 1)
            return start.with_faults(Fault("mmap", nth, "ENODEV", "late", persistent=True))
        case "second" if "call" in shows.__name__:
            return packed_sequence(start, rng.randbytes(SEQUENCE_BYTES))
        case "after":
            return replace(start, earlier=tuple(packed_case(rng.randbytes(CASE_BYTES)) for _ in range(4)))
        case _:
            return start


@pytest.mark.parametrize("shows", list(FAULTS), ids=lambda shows: shows.__name__)
def test_a_fault_ends_in_the_same_case_from_every_start(shows: Condition) -> None:
    rng = random.Random(shows.__name__)
    starts = list(itertools.islice((start for _ in range(60_000) if shows(start := drawn(shows, rng))), STARTS))
    assert len(starts) == STARTS
    for start in starts:
        trial = Trial(shows, start)
        assert minimal(trial).case == FAULTS[shows]
        assert trial.tries < 1000


@pytest.mark.parametrize("end", [end for end in FAULTS.values() if not end.sequence and not end.earlier])
def test_what_no_small_case_can_take_the_place_of_is_the_least(end: Case) -> None:
    """The cases to try cost less, each of them, the cheapest first, and are cases."""
    candidates = small_cases(end)
    assert [cost(c) for c in candidates] == sorted(cost(c) for c in candidates)
    for candidate in candidates:
        check(candidate)
        assert cost(candidate) < cost(end)
        assert reasons(candidate) == reasons(end)


def test_nothing_is_less_than_a_page_of_one_region() -> None:
    assert small_cases(ONE) == []
    assert len(small_cases(case(world(Region(0, PAGE), Region(1, PAGE)), page(), page(block=1)))) > 10


@pytest.mark.parametrize("kind", [Device, Region, RamBlock, Case])
def test_a_field_away_from_its_default_costs_and_a_reducer_resets_it(kind: type[Struct]) -> None:
    """A field added to a case or its world is taken away where it does not matter, without being named anywhere."""
    plain = replace(ONE, devices=(Device((*ONE.devices[0].regions, Region(1, PAGE))),))
    for name, default in defaults_of(kind).items():
        odd = not default if isinstance(default, bool) else "odd" if isinstance(default, str) else 1 << 20
        changed = with_odd(plain, kind, {name: odd})
        assert cost(changed) > cost(plain), name
        assert plain in list(defaults(changed)), name


def with_odd(of: Case, kind: type[Struct], fields: dict[str, object]) -> Case:
    """With these fields of the case, of its device, of its RAM block, or of the region that has no block."""
    (device,), (block,) = of.devices, of.ram_blocks
    if kind is Case:
        return replace(of, **fields)
    if kind is RamBlock:
        return replace(of, ram_blocks=(replace(block, **fields),))
    if kind is Device:
        return replace(of, devices=(replace(device, **fields),))
    regions = (device.regions[0], replace(device.regions[1], **fields))
    return replace(of, devices=(replace(device, regions=regions),))


@given(cases(), cases())
def test_two_cases_that_cost_the_same_are_the_same(one: Case, other: Case) -> None:
    assert (cost(one) == cost(other)) == (one == other)


# ---- reducers: one idea each --------------------------------------------------------------------------------


def whole(pages: int, *segments: Segment) -> Case:
    return case(world(Region(0, pages * PAGE)), *segments)


def first_area(region: int, area: int, *segments: Segment) -> Case:
    return case(world(Region(0, region * PAGE, (Area(0, area * PAGE),))), *segments)


TWO_DEVICES = (Device((Region(0, PAGE),)),) * 2, (RamBlock(0, 0, 0), RamBlock(1, 0, 0))
CANDIDATES = [
    (joined_segments, whole(3, page(), page(1, 2)), whole(3, page(0, 3))),
    (joined_segments, whole(1, page(), page()), whole(2, page(0, 2))),
    (evened_segments, whole(4, page(0, 4), page()), whole(4, page(0, 3), page(0, 2))),
    (alike_segments, whole(4, page(3), page(2)), whole(4, page(1), page())),
    (swapped_segments, whole(2, page(1), page()), whole(2, page(), page(1))),
    (numbers_lowered_together, first_area(7, 2, page(0, 3)), first_area(6, 1, page(0, 2))),
    (blocks_cut_at_the_start, first_area(4, 3, page(), page(2, 2)), first_area(2, 1, page(), page(0, 2))),
    (
        pages_of_this_machine,
        replace(case(world(Region(0, 16 * PAGE)), page(0, 8), page(0, 8)), page_size=16 * PAGE),
        case(WHOLE, Segment(0, 0, PAGE // 2), Segment(0, 0, PAGE // 2)),
    ),
    (merged_devices, case(TWO_DEVICES, page(block=1)), case(world(Region(0, PAGE), Region(1, PAGE)), page(block=1))),
    (blocks_of_devices, Case((), (RamBlock(size=PAGE),), (page(),), PAGE), ONE),
    (
        areas_as_regions,
        case(world(Region(0, 3 * PAGE, (Area(0, PAGE), Area(PAGE, 2 * PAGE)))), page(block=1)),
        case(world(Region(0, PAGE), Region(1, 2 * PAGE)), page(block=1)),
    ),
    (lower_indexes, case(world(Region(300, PAGE)), page()), case(world(Region(150, PAGE)), page())),
]


@pytest.mark.parametrize(("reducer", "before", "after"), CANDIDATES)
def test_a_reducer_has_its_candidate(reducer: Callable[[Case], Iterator[Case]], before: Case, after: Case) -> None:
    assert after in list(reducer(before))


def test_areas_that_become_one_have_one_block() -> None:
    """Segments of the block that goes are then in the one that stays."""
    region = Region(0, 2 * PAGE, (Area(0, PAGE), Area(PAGE, PAGE)))
    (merged,) = (
        c for c in simpler_areas(case(world(region), page(), page(block=1))) if c.devices[0].regions[0].areas is None
    )
    assert merged.ram_blocks == (RamBlock(0, 0, 0),)
    assert [s.block for s in merged.iovec] == [0, 0]
