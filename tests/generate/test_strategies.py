"""Generated cases: well-formed where promised, broken in every way, of every size, and shrinking to what matters."""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from itertools import combinations

import pytest
from case_texts import from_json
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st
from once import once
from strategies import packed_cases

from vfio_verify.generate import layouts
from vfio_verify.generate.layouts import MALFORMATIONS, any_case, well_formed
from vfio_verify.generate.strategies import cases
from vfio_verify.values.case import MAX_SEGMENTS, PAGE, Case, Device, RamBlock, Region, Segment, check
from vfio_verify.values.model import expect

GIB = 1 << 30
REFUSING = ("SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED", "NOT_EMPTY")
SMALLEST = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


def draw(strategy: st.SearchStrategy[Case], count: int, number: int = 1) -> list[Case]:
    """The same cases each time."""
    drawn: list[Case] = []

    @seed(number)
    @settings(max_examples=count, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def collect(case: Case) -> None:
        drawn.append(case)

    collect()
    return drawn


@cache
def packed() -> tuple[Case, ...]:
    """As many as a campaign's first seconds have."""
    return once("packed", lambda _: tuple(draw(packed_cases(), 2000)))


def reasons(case: Case) -> frozenset[str]:
    return frozenset(refusal.clause for refusal in expect(case).refusals)


# ---- every case is one -------------------------------------------------------------------------------------


@given(st.one_of(cases(), cases(valid=True), packed_cases()))
def test_every_case_can_be_made_real_and_written_down(case):
    check(case)
    assert from_json(case.to_json()) == case


def test_all_of_thousands_can_be_made_real():
    for case in packed():
        check(case)


@given(cases(valid=True))
def test_a_valid_case_must_be_mapped_and_has_no_fault(case):
    assert expect(case).must_map
    assert case.fault_plan == ()
    assert case.earlier == ()


class Told:
    """Choices as given; then always the simplest."""

    def __init__(self, *told: int) -> None:
        self._told = list(told)

    def integer(self, low: int, high: int) -> int:
        return min(max(self._told.pop(0), low), high) if self._told else low


def test_the_simplest_choices_make_the_smallest_case():
    assert well_formed(Told()) == any_case(Told()) == SMALLEST


@given(st.sampled_from(sorted(MALFORMATIONS)), st.sampled_from(sorted(MALFORMATIONS)), st.data())
def test_malformations_in_any_order_leave_a_case(first, second, data):
    class Drawn:
        def integer(self, low: int, high: int) -> int:
            assert low <= high
            return data.draw(st.integers(low, high))

    case = well_formed(Drawn())
    for name in (first, second):
        case = MALFORMATIONS[name](Drawn(), case)
        check(case)


# ---- far enough --------------------------------------------------------------------------------------------

BREAKS = {
    "other block": "SAME_BLOCK",
    "next block": "SAME_BLOCK",
    "other device": "SAME_BLOCK",
    "plain RAM": "SAME_BLOCK",
    "no block": "SAME_BLOCK",
    "past the end": "WITHIN_BLOCK",
    "past the area": "WITHIN_BLOCK",
    "far past the end": "WITHIN_BLOCK",
    "misaligned length": "ALIGNED",
    "misaligned pair": "ALIGNED",
    "misaligned base": "ALIGNED",
    "empty segment": "NOT_EMPTY",
    "no segments": "NOT_EMPTY",
    "wrong total": "SIZE_AGREES",
    "sum overflows": "SIZE_AGREES",
}


def test_every_malformation_is_known_here():
    assert set(BREAKS) == set(MALFORMATIONS)


@pytest.mark.parametrize("name", BREAKS)
def test_each_malformation_breaks_what_its_name_says(name):
    class Bytes:
        def __init__(self, data: bytes) -> None:
            self._data = iter(data)

        def integer(self, low: int, high: int) -> int:
            return low + next(self._data, 0) % (high - low + 1)

    broken = []

    @seed(2)
    @settings(max_examples=150, phases=[Phase.generate], database=None)
    @given(st.binary(min_size=40, max_size=40), st.binary(min_size=8, max_size=8))
    def apply(world: bytes, choices: bytes) -> None:
        broken.append(MALFORMATIONS[name](Bytes(choices), well_formed(Bytes(world))))

    apply()
    met = Counter(reason for case in broken for reason in reasons(case))
    assert met[BREAKS[name]] >= len(broken) // 8


@pytest.mark.parametrize("clause", REFUSING)
def test_each_reason_to_refuse_is_met_alone(clause):
    assert sum(reasons(case) == {clause} for case in packed()) >= 12


@pytest.mark.parametrize("pair", list(combinations(REFUSING, 2)), ids="+".join)
def test_each_two_reasons_to_refuse_are_met_together(pair):
    assert any(set(pair) <= reasons(case) for case in packed())


def test_half_of_the_cases_or_so_must_be_mapped():
    share = sum(expect(case).must_map for case in packed()) / len(packed())
    assert 0.35 < share < 0.75
    either = sum(expect(case).may_map and not expect(case).must_map for case in packed())
    assert either >= 20


def test_from_one_segment_to_hundreds_are_met():
    lengths = Counter(len(case.iovec) for case in packed())
    assert set(range(8)) <= set(lengths)
    assert sum(count for n, count in lengths.items() if n >= 100) >= 10
    assert 300 <= max(lengths) <= MAX_SEGMENTS
    assert lengths[1] + lengths[2] > sum(count for n, count in lengths.items() if n > 16)


@pytest.mark.parametrize("bound", [2 * GIB, 4 * GIB])
def test_totals_beyond_2_and_4_gib_must_be_mapped_too(bound):
    assert sum(expect(case).must_map and case.total_size > bound for case in packed()) >= 3


def test_a_sum_beyond_64_bits_is_met_that_agrees_with_the_total_in_64_bits():
    def wraps(case: Case) -> bool:
        total = sum(segment.length for segment in case.iovec)
        return total >= 2**64 and total % 2**64 == case.total_size

    assert any(map(wraps, packed()))


WORLDS = {
    "a sparse region": lambda case: any(r.areas for d in case.devices for r in d.regions),
    "a segment in a sparse region's second area": lambda case: any(
        s.block is not None and (case.ram_blocks[s.block].area or 0) > 0 for s in case.iovec
    ),
    "two devices": lambda case: len(case.devices) >= 2,
    "two regions": lambda case: any(len(d.regions) > 1 for d in case.devices),
    "a high region index": lambda case: any(r.index >= 300 for d in case.devices for r in d.regions),
    "a read-only region": lambda case: any(not r.writable for d in case.devices for r in d.regions),
    "a driver that minds areas": lambda case: any(d.mmap_rule == "areas" for d in case.devices),
    "a region that ends inside a page, mapped to the end of it": lambda case: (
        expect(case).must_map and any(s.offset + s.length > case.area_of(s.block).size for s in case.iovec)
    ),
    "a region smaller than a page": lambda case: any(r.size < PAGE for d in case.devices for r in d.regions),
    "an MSI-X table cut out": lambda case: any(r.msix == "cut" for d in case.devices for r in d.regions),
    "an MSI-X table that may be mapped": lambda case: any(
        r.msix == "mappable" for d in case.devices for r in d.regions
    ),
    "a segment that runs on into the next block": lambda case: any(
        s.block is not None
        and s.offset + s.length > case.block_size(s.block)
        and s.block + 1 < len(case.ram_blocks)
        and case.ram_blocks[s.block + 1].touches
        for s in case.iovec
    ),
    "neighbours in the host of two blocks": lambda case: any(
        None not in (a.block, b.block)
        and b.block == a.block + 1
        and case.ram_blocks[b.block].touches
        and (b.offset, a.offset + a.length) == (0, case.block_size(a.block))
        for a, b in zip(case.iovec, case.iovec[1:], strict=False)
    ),
    "a total that ends inside the last page of the list": lambda case: (
        expect(case).either and case.total_size < sum(s.length for s in case.iovec)
    ),
    "files of regions": lambda case: any(d.region_files for d in case.devices),
    "regions in ordinary files": lambda case: any(d.mmap_rule == "file" for d in case.devices),
    "two regions at places of their own in one file": lambda case: any(
        not d.region_files and sum(r.offset is not None for r in d.regions) > 1 for d in case.devices
    ),
    "a region that begins where vfio-pci has another": lambda case: any(
        r.offset == 0 and r.index > 0 for d in case.devices for r in d.regions
    ),
    "descriptors of regions": lambda case: any(d.region_fds for d in case.devices),
    "no place for an error": lambda case: case.errp == "null",
    "repeats": lambda case: expect(case).must_map and len(set(case.iovec)) < len(case.iovec),
    "neighbours that merge": lambda case: 0 < len(expect(case).overlays) < len(case.iovec),
    "overlaps": lambda case: any(
        a.block == b.block and a.offset < b.offset < a.offset + a.length for a, b in combinations(case.iovec[:8], 2)
    ),
    "out of order": lambda case: (
        expect(case).must_map and any(a.offset > b.offset for a, b in zip(case.iovec, case.iovec[1:], strict=False))
    ),
    "a block mapped to its last byte": lambda case: (
        expect(case).must_map and any(s.offset + s.length == case.block_size(s.block) for s in case.iovec)
    ),
}


@pytest.mark.parametrize("what", WORLDS)
def test_every_kind_of_world_and_iovec_is_met(what):
    assert sum(map(WORLDS[what], packed())) >= 5


def test_both_strategies_make_the_same_kinds_of_cases():
    drawn = draw(cases(), 250)
    assert set().union(*map(reasons, drawn)) == set(REFUSING)
    assert any(expect(case).must_map for case in drawn)


# ---- shrinking ---------------------------------------------------------------------------------------------

# The predicate, the segments left by each strategy, and the pages left. Bytes that stand for choices shrink less well.
# What no segment names may stay: it is the shrinker of cases (simpler.py) that takes it away.
PREDICATES = {
    "anything": (lambda _: True, 1, 1, 1),
    "three segments": (lambda case: len(case.iovec) >= 3, 3, 3, 3),
    "a misaligned length": (lambda case: any(s.length % PAGE for s in case.iovec), 1, 6, 6),
    "two devices": (
        lambda case: len({case.ram_blocks[s.block].device for s in case.iovec if s.block is not None} - {None}) > 1,
        2,
        6,
        6,
    ),
    "more than 4 GiB": (lambda case: expect(case).must_map and case.total_size > 4 * GIB, 2, 4, 4 * GIB // PAGE + 2),
}


@pytest.mark.parametrize("strategy", ["drawn", "packed"])
@pytest.mark.parametrize("what", PREDICATES)
def test_shrinking_leaves_no_segment_and_no_page_that_does_not_matter(strategy, what):
    matters, drawn, packed, pages = PREDICATES[what]
    quick = settings(max_examples=1500, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    smallest = find(cases() if strategy == "drawn" else packed_cases(), matters, settings=quick)
    assert len(smallest.iovec) <= (drawn if strategy == "drawn" else packed)
    assert sum(-(-segment.length // PAGE) for segment in smallest.iovec) <= pages
    assert all(segment.offset == 0 for segment in smallest.iovec)
    if what == "anything":
        assert smallest == SMALLEST


@pytest.mark.parametrize("start", range(20))
def test_three_segments_are_left_wherever_shrinking_starts(start):
    """A case with hundreds of segments is of a kind that most cases with few are not."""
    quick = settings(max_examples=100, database=None, suppress_health_check=list(HealthCheck))
    smallest = find(cases(), lambda case: len(case.iovec) >= 3, settings=quick, random=random.Random(start))
    assert len(smallest.iovec) == 3


class Extreme:
    """Choices of which each is the lowest (0) or the highest (1)."""

    def __init__(self, which: int) -> None:
        self._which = which

    def integer(self, low: int, high: int) -> int:
        return (low, high)[self._which]


def test_a_long_segment_of_a_small_block_is_not_longer_than_the_block() -> None:
    """The pages before an MSI-X table are a RAMBlock, and may be one page."""
    for pages in (1, 2, 3):
        (simplest,) = layouts._with_long_segments(Extreme(0), 0, pages * PAGE)
        assert simplest == Segment(0, 0, pages * PAGE)
        for segment in layouts._with_long_segments(Extreme(1), 0, pages * PAGE):
            assert 0 < segment.length <= pages * PAGE - segment.offset
