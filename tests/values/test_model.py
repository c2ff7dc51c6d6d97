"""The expectation: each rule by cases made by hand, and all of them against a page-by-page formulation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import packed_cases

from vfio_verify.generate.strategies import cases
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.model import Overlay, expect

# Device 0: region 0 of 8 pages; region 2 with the areas [2, 5) and [5, 9) pages, which touch, and [12, 14).
# Device 1: region 0 of 8 pages, as device 0's.
SPARSE = Region(2, 16 * PAGE, (Area(2 * PAGE, 3 * PAGE), Area(5 * PAGE, 4 * PAGE), Area(12 * PAGE, 2 * PAGE)))
DEVICES = (Device((Region(0, 8 * PAGE), SPARSE)), Device((Region(0, 8 * PAGE),)))
BLOCKS = (
    RamBlock(0, 0, 0),
    RamBlock(0, 2, 0),
    RamBlock(0, 2, 1),
    RamBlock(0, 2, 2),
    RamBlock(1, 0, 0),
    RamBlock(size=8 * PAGE),
)
WHOLE, AREA_0, AREA_1, AREA_2, TWIN, RAM = range(6)
REGION_2 = 2 << 40


def pages(block: int | None, first: int, count: int) -> Segment:
    return Segment(block, first * PAGE, count * PAGE)


def layout(*segments: Segment, total: int | None = None) -> Case:
    return Case(DEVICES, BLOCKS, segments, sum(s.length for s in segments) if total is None else total)


def refused_by(case: Case, policy: str = "same-block") -> set[tuple[str, int | None]]:
    expected = expect(case, policy)
    assert expected.may_map == (not expected.refusals)
    assert not (expected.must_map and expected.refusals)
    assert not (expected.refusals and expected.overlays)
    return {(refusal.clause, refusal.segment) for refusal in expected.refusals}


# ---- must map ----------------------------------------------------------------------------------------------


def test_one_page_must_be_mapped_at_its_file_offset():
    expected = expect(layout(pages(WHOLE, 3, 1)))
    assert expected.must_map
    assert expected.overlays == (Overlay(0, PAGE, 0, 3 * PAGE),)
    assert expected.total_size == PAGE


def test_an_areas_file_offset_counts_from_its_region():
    """`rb->mr->addr` is the area's offset; a block's offset 0 is not the region's."""
    assert expect(layout(pages(AREA_2, 1, 1))).overlays == (Overlay(0, PAGE, 0, REGION_2 + 13 * PAGE),)


def test_another_devices_pages_are_that_devices():
    assert expect(layout(pages(TWIN, 0, 2))).overlays == (Overlay(0, 2 * PAGE, 1, 0),)


def test_repeats_are_mapped_as_often_as_they_come():
    expected = expect(layout(pages(WHOLE, 1, 1), pages(WHOLE, 1, 1), pages(WHOLE, 0, 3)))
    assert expected.must_map
    assert expected.overlays == (
        Overlay(0, PAGE, 0, PAGE),
        Overlay(PAGE, 2 * PAGE, 0, PAGE),
        Overlay(2 * PAGE, 5 * PAGE, 0, 0),
    )


def test_neighbours_that_continue_each_other_are_one_overlay():
    expected = expect(layout(pages(WHOLE, 1, 2), pages(WHOLE, 3, 1), pages(WHOLE, 4, 2), pages(WHOLE, 1, 1)))
    assert expected.overlays == (Overlay(0, 5 * PAGE, 0, PAGE), Overlay(5 * PAGE, 6 * PAGE, 0, PAGE))


def test_neighbours_in_the_wrong_order_are_not_one_overlay():
    expected = expect(layout(pages(WHOLE, 2, 1), pages(WHOLE, 1, 1)))
    assert expected.overlays == (Overlay(0, PAGE, 0, 2 * PAGE), Overlay(PAGE, 2 * PAGE, 0, PAGE))


def test_a_segment_of_the_whole_block_must_be_mapped():
    assert expect(layout(pages(WHOLE, 0, 8))).must_map


def test_more_than_4_gib_must_be_mapped():
    region = Region(300, 1 << 40)
    case = Case((Device((region,)),), (RamBlock(0, 300, 0),), (Segment(0, PAGE, 5 << 30),), 5 << 30)
    expected = expect(case)
    assert expected.must_map
    assert expected.overlays == (Overlay(0, 5 << 30, 0, (300 << 40) + PAGE),)


def test_a_region_is_shown_from_where_it_begins_in_its_file():
    device = Device((Region(0, 4 * PAGE, offset=9 * PAGE), Region(1, 2 * PAGE, offset=0)), "file", region_fds=True)
    case = Case((device,), (RamBlock(0, 0, 0), RamBlock(0, 1, 0)), (), 0)
    first = replace(case, iovec=(Segment(0, PAGE, PAGE),), total_size=PAGE)
    second = replace(case, iovec=(Segment(1, PAGE, PAGE),), total_size=PAGE)
    assert expect(first).overlays == (Overlay(0, PAGE, 0, 10 * PAGE),)
    assert expect(second).overlays == (Overlay(0, PAGE, 0, PAGE),)


def test_a_region_with_a_file_of_its_own_is_shown_from_that():
    user = Device((Region(0, PAGE), Region(7, 2 * PAGE, offset=PAGE)), "file", region_fds=True, region_files=True)
    case = Case((Device((Region(0, PAGE),)), user), (RamBlock(1, 0, 0), RamBlock(1, 7, 0)), (), 0)
    first = replace(case, iovec=(Segment(0, 0, PAGE),), total_size=PAGE)
    second = replace(case, iovec=(Segment(1, PAGE, PAGE),), total_size=PAGE)
    assert expect(first).overlays == (Overlay(0, PAGE, 16, 0),)
    assert expect(second).overlays == (Overlay(0, PAGE, 17, 2 * PAGE),)


def test_30_000_segments_must_be_mapped():
    case = layout(*(pages(WHOLE, i * 5 % 8, 1) for i in range(30_000)))
    expected = expect(case)
    assert expected.must_map
    assert len(expected.overlays) == 30_000
    assert expected.overlays[-1].end == 30_000 * PAGE


def test_a_fault_plan_changes_nothing_of_what_the_layout_is_worth():
    case = layout(pages(WHOLE, 0, 1))
    assert expect(case.with_faults(Fault("mmap", 1))) == expect(case)


# ---- either ------------------------------------------------------------------------------------------------


def test_a_misaligned_last_length_may_be_refused_or_mapped_whole():
    """ALIGNED"""
    expected = expect(layout(pages(WHOLE, 0, 1), Segment(WHOLE, 2 * PAGE, PAGE + 1)))
    assert expected.may_map
    assert not expected.must_map
    assert expected.overlays == (Overlay(0, PAGE, 0, 0), Overlay(PAGE, 3 * PAGE, 0, 2 * PAGE))
    assert expected.total_size == 2 * PAGE + 1


def test_a_single_byte_may_be_refused_or_mapped_whole():
    expected = expect(layout(Segment(WHOLE, 7 * PAGE, 1)))
    assert expected.may_map
    assert not expected.must_map
    assert expected.overlays == (Overlay(0, PAGE, 0, 7 * PAGE),)


@pytest.mark.parametrize("size", [1, 0x100, PAGE - 1, PAGE + 100, 2 * PAGE - 1])
def test_a_region_that_ends_inside_a_page_must_be_mapped_to_the_end_of_it_and_not_beyond(size):
    """QEMU's RAMBlock is of whole pages, and vfio-pci maps them."""
    whole = -(-size // PAGE) * PAGE
    case = Case((Device((Region(0, size),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, whole),), whole)
    expected = expect(case)
    assert expected.must_map
    assert expected.overlays == (Overlay(0, whole, 0, 0),)
    past = replace(case, iovec=(Segment(0, 0, whole + 1),), total_size=whole + 1)
    assert refused_by(past) == {("WITHIN_BLOCK", 0)}


@pytest.mark.parametrize("total", [7 * PAGE + 1, 7 * PAGE + PAGE // 2, 8 * PAGE - 1])
@pytest.mark.parametrize("last", [0, 1, 8])
def test_lengths_that_reach_to_the_end_of_the_total_sizes_last_page_may_be_refused_or_mapped_whole(total, last):
    """SIZE_AGREES"""
    expected = expect(layout(pages(WHOLE, 0, 4), Segment(WHOLE, 4 * PAGE, 4 * PAGE - last), total=total))
    if 8 * PAGE - last < total:
        assert expected.refusals
        return
    assert expected.may_map
    assert expected.must_map == (total == 8 * PAGE - last and not last)
    assert expected.overlays == (Overlay(0, 8 * PAGE, 0, 0),)


def test_a_blob_of_131268_bytes_may_be_refused_or_mapped_whole_in_one_segment_and_in_33_pages():
    """SIZE_AGREES, ALIGNED"""
    case = Case((Device((Region(0, 1 << 20),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, 131_268),), 131_268)
    whole = replace(case, iovec=tuple(Segment(0, i * 4096, 4096) for i in range(33)))
    for layout_of_it in (case, whole):
        expected = expect(layout_of_it)
        assert expected.may_map
        assert not expected.must_map
        assert expected.overlays == (Overlay(0, 33 * 4096, 0, 0),)
    longer = replace(whole, iovec=(*whole.iovec, Segment(0, 0, 4096)))
    assert refused_by(longer) == {("SIZE_AGREES", None)}
    assert refused_by(replace(whole, iovec=whole.iovec[:-1])) == {("SIZE_AGREES", None)}


def test_areas_that_qemu_cut_are_blocks_of_their_own():
    region = Region(2, 6 * PAGE, (Area(0, PAGE), Area(3 * PAGE, 3 * PAGE)), msix="cut")
    case = Case((Device((region,)),), (RamBlock(0, 2, 0), RamBlock(0, 2, 1)), (Segment(1, PAGE, PAGE),), PAGE)
    assert expect(case).overlays == (Overlay(0, PAGE, 0, REGION_2 + 4 * PAGE),)
    assert refused_by(replace(case, iovec=(Segment(0, 0, 2 * PAGE),), total_size=2 * PAGE)) == {("WITHIN_BLOCK", 0)}


def test_a_block_that_touches_the_one_before_it_is_another_one():
    case = Case(
        (Device((Region(0, PAGE), Region(1, PAGE))),), (RamBlock(0, 0, 0), RamBlock(0, 1, 0, touches=True)), (), 0
    )
    on = replace(case, iovec=(Segment(0, 0, PAGE), Segment(1, 0, PAGE)), total_size=2 * PAGE)
    assert refused_by(on) == {("SAME_BLOCK", 1)}
    assert refused_by(replace(on, iovec=(Segment(0, 0, 2 * PAGE),))) == {("WITHIN_BLOCK", 0)}


# ---- must refuse -------------------------------------------------------------------------------------------


def test_no_segments_are_refused_whatever_the_total():
    """NOT_EMPTY"""
    assert refused_by(layout(total=0)) == refused_by(layout(total=PAGE)) == {("NOT_EMPTY", None)}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_empty_segment_is_refused_wherever_it_is(position):
    """NOT_EMPTY"""
    segments = [pages(WHOLE, 0, 1), pages(WHOLE, 1, 1)]
    segments.insert(position, Segment(WHOLE, 0, 0))
    assert refused_by(layout(*segments)) == {("NOT_EMPTY", position)}


@pytest.mark.parametrize("by", [1, PAGE - 1, PAGE, -PAGE, -PAGE - 1, 1 << 32])
def test_a_total_that_is_not_the_sum_is_refused(by):
    """SIZE_AGREES"""
    assert refused_by(layout(pages(WHOLE, 0, 2), total=2 * PAGE + by)) == {("SIZE_AGREES", None)}


@pytest.mark.parametrize("total", [0, PAGE, 2**64 - PAGE])
def test_a_sum_beyond_64_bits_does_not_agree_with_what_is_left_of_it(total):
    """SIZE_AGREES"""
    segments = (pages(WHOLE, 0, 1), Segment(WHOLE, 0, 2**64 - PAGE))
    assert refused_by(layout(*segments, total=total)) == {("SIZE_AGREES", None), ("WITHIN_BLOCK", 1)}


def test_the_largest_sum_of_64_bits_agrees_and_is_refused_for_its_bounds_only():
    assert refused_by(layout(Segment(WHOLE, 0, 2**64 - 1))) == {("WITHIN_BLOCK", 0)}


@pytest.mark.parametrize("segment", [pages(WHOLE, 7, 2), pages(WHOLE, 0, 9), Segment(WHOLE, 7 * PAGE, PAGE + 1)])
def test_a_segment_past_its_block_is_refused_at_the_first_byte(segment):
    """WITHIN_BLOCK"""
    assert refused_by(layout(pages(WHOLE, 0, 1), segment)) == {("WITHIN_BLOCK", 1)}


def test_a_segment_past_its_area_is_refused_even_where_the_region_goes_on():
    """WITHIN_BLOCK: areas 0 and 1 touch, and blocks do not."""
    assert refused_by(layout(pages(AREA_0, 2, 2))) == {("WITHIN_BLOCK", 0)}


@pytest.mark.parametrize("policy", ["same-block", "same-region", "same-device"])
def test_segments_in_no_block_or_in_plain_ram_are_refused_under_every_policy(policy):
    """SAME_BLOCK"""
    assert refused_by(layout(pages(None, 0, 1)), policy) == {("SAME_BLOCK", 0)}
    assert refused_by(layout(pages(WHOLE, 0, 1), pages(None, 0, 1)), policy) == {("SAME_BLOCK", 1)}
    assert refused_by(layout(pages(RAM, 0, 1)), policy) == {("SAME_BLOCK", 0)}
    assert ("SAME_BLOCK", 1) in refused_by(layout(pages(WHOLE, 0, 1), pages(RAM, 0, 1)), policy)


@pytest.mark.parametrize(
    ("blocks", "refused"),
    [
        ((WHOLE, WHOLE), set()),
        ((AREA_0, AREA_2), {"same-block"}),
        ((WHOLE, AREA_0), {"same-block", "same-region"}),
        ((WHOLE, TWIN), {"same-block", "same-region", "same-device"}),
    ],
)
@pytest.mark.parametrize("policy", ["same-block", "same-region", "same-device"])
def test_what_may_share_a_dmabuf_is_the_policys(blocks, refused, policy):
    """SAME_BLOCK"""
    first, second = blocks
    case = layout(pages(first, 0, 1), pages(second, 1, 1), pages(first, 0, 1))
    assert refused_by(case, policy) == ({("SAME_BLOCK", 1)} if policy in refused else set())


def test_two_blocks_of_one_region_are_one_overlay_where_they_touch():
    expected = expect(layout(pages(AREA_0, 1, 2), pages(AREA_1, 0, 1), pages(AREA_2, 0, 1)), "same-region")
    assert expected.must_map
    assert expected.overlays == (
        Overlay(0, 3 * PAGE, 0, REGION_2 + 3 * PAGE),
        Overlay(3 * PAGE, 4 * PAGE, 0, REGION_2 + 12 * PAGE),
    )


@pytest.mark.parametrize("offset", [1, 8, PAGE - 1, 3 * PAGE + 1])
def test_a_segment_that_begins_inside_a_page_is_refused(offset):
    """ALIGNED"""
    assert refused_by(layout(Segment(WHOLE, offset, PAGE))) == {("ALIGNED", 0)}
    assert refused_by(layout(pages(WHOLE, 0, 1), Segment(WHOLE, offset, PAGE))) == {("ALIGNED", 1)}


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE + 1])
def test_a_segment_that_ends_inside_a_page_and_is_not_the_last_is_refused(length):
    """ALIGNED"""
    case = layout(Segment(WHOLE, 0, length), pages(WHOLE, 0, 1))
    assert refused_by(case) == {("ALIGNED", 0)}


def test_two_misaligned_lengths_that_add_up_to_pages_are_refused():
    """ALIGNED"""
    case = layout(Segment(WHOLE, 0, PAGE // 2), Segment(WHOLE, PAGE, PAGE // 2))
    assert refused_by(case) == {("ALIGNED", 0)}


def test_every_reason_is_told():
    case = layout(Segment(WHOLE, 1, 0), pages(TWIN, 7, 2), Segment(None, 3, 5), total=1)
    assert refused_by(case) == {
        ("NOT_EMPTY", 0),
        ("ALIGNED", 0),
        ("WITHIN_BLOCK", 1),
        ("ALIGNED", 2),
        ("SAME_BLOCK", 2),
        ("SAME_BLOCK", 1),
        ("SIZE_AGREES", None),
    }


# ---- the same, page by page --------------------------------------------------------------------------------


def the_bytes(case: Case, block: int) -> tuple[int | None, int, int]:
    """The file, and the first offset and the end of a block in it: from the layout of vfio-pci, or from the case."""
    entry = case.ram_blocks[block]
    if entry.device is None:
        return None, 0, entry.size + PAGE - 1 & -PAGE
    files = [(d, r.index) for d, device in enumerate(case.devices) if device.region_files for r in device.regions]
    for region in case.devices[entry.device].regions:
        if region.index == entry.region:
            areas = [(0, region.size)] if region.areas is None else [(a.offset, a.size) for a in region.areas]
            offset, size = areas[entry.area]
            own = (entry.device, entry.region) in files
            usual = 0 if own else region.index * 2**40
            offset += usual if region.offset is None else region.offset
            end = offset + (size + PAGE - 1 & -PAGE)
            return 16 + files.index((entry.device, entry.region)) if own else entry.device, offset, end
    raise AssertionError("the case is no case")


def by_pages(case: Case, policy: str) -> tuple[set[str], list[tuple[int, int]]]:
    """The clauses that refuse a case, and the page behind each page of the mapping, asked of every page by itself."""
    reasons: set[str] = set()
    if len(case.iovec) == 0:
        return {"NOT_EMPTY"}, []
    shared = set()
    mapped = []
    left = case.total_size
    for number, segment in enumerate(case.iovec):
        left -= segment.length
        if segment.length == 0:
            reasons.add("NOT_EMPTY")
        if segment.offset & (case.page_size - 1):
            reasons.add("ALIGNED")
        if segment.length & (case.page_size - 1) and case.iovec[number + 1 :]:
            reasons.add("ALIGNED")
        if segment.block is None:
            reasons.add("SAME_BLOCK")
            continue
        file, first, end = the_bytes(case, segment.block)
        if file is None:
            reasons.add("SAME_BLOCK")
        entry = case.ram_blocks[segment.block]
        region = (entry.device, entry.region)
        where = {"same-block": segment.block, "same-region": region, "same-device": entry.device}[policy]
        shared.add(where if file is not None else ("RAM", where))
        at = first + segment.offset
        if at + segment.length > end:
            reasons.add("WITHIN_BLOCK")
        elif segment.length <= 4096 * case.page_size:
            mapped += [(file, page) for page in range(at, at + segment.length, case.page_size)]
        else:
            mapped += [(file, at), (file, at + segment.length - 1 & -case.page_size)]
    listed = case.total_size - left
    if left > 0 or (left < 0 and (listed - 1) // case.page_size != (case.total_size - 1) // case.page_size):
        reasons.add("SIZE_AGREES")
    if len(shared) > 1:
        reasons.add("SAME_BLOCK")
    return reasons, mapped


def unfolded(case: Case, overlays: tuple[Overlay, ...]) -> list[tuple[int, int]]:
    """The page behind each page, where by_pages() asks for it, read from the overlays."""
    asked, done = [], 0
    for segment in case.iovec:
        if segment.length <= 4096 * case.page_size:
            asked += range(done, done + segment.length, case.page_size)
        else:
            asked += [done, done + segment.length - 1 & -case.page_size]
        done += segment.length
    found = []
    for at in asked:
        (overlay,) = (o for o in overlays if o.start <= at < o.end)
        found.append((overlay.memory, overlay.offset + at - overlay.start))
    return found


@st.composite
def crowded_cases(draw: st.DrawFn) -> Case:
    """Segments anywhere in a fixed, crowded world, aligned or nearly so; the total right or nearly so."""
    odd = st.sampled_from([0, 0, 0, 0, 1, PAGE - 1])
    iovec = []
    for _ in range(draw(st.integers(0, 5))):
        block = draw(st.sampled_from([AREA_0, AREA_0, AREA_1, AREA_2, WHOLE, TWIN, RAM, None]))
        size = 1 << 20 if block is None else layout().block_size(block)
        offset = min(draw(st.integers(0, 8)) * PAGE + draw(odd), size - 1)
        length = draw(st.integers(0, 4)) * PAGE + draw(odd)
        iovec.append(Segment(block, offset, draw(st.sampled_from([length, length, length, 2**64 - 1 - length]))))
    total = sum(s.length for s in iovec) + draw(st.sampled_from([0, 0, 0, 1, -1, PAGE]))
    return Case(DEVICES, BLOCKS, tuple(iovec), max(total, 0) % 2**64)


@given(
    st.one_of(crowded_cases(), cases(), cases(valid=True), packed_cases()),
    st.sampled_from(["same-block", "same-region", "same-device"]),
)
def test_the_model_says_the_same_as_a_page_by_page_account(case, policy):
    expected = expect(case, policy)
    reasons, mapped = by_pages(case, policy)
    assert {refusal.clause for refusal in expected.refusals} == reasons
    if reasons:
        assert expected.overlays == ()
        return
    odd = case.iovec[-1].length % case.page_size != 0 or sum(segment.length for segment in case.iovec) > case.total_size
    assert expected.must_map != odd
    assert unfolded(case, expected.overlays) == mapped


@given(st.one_of(crowded_cases(), cases(valid=True)), st.sampled_from(["same-block", "same-region"]))
def test_overlays_tile_the_whole_mapping_and_are_merged_as_far_as_they_can_be(case, policy):
    expected = expect(case, policy)
    if not expected.may_map:
        return
    at = 0
    for overlay in expected.overlays:
        assert overlay.start == at < overlay.end
        assert overlay.offset % case.page_size == overlay.end % case.page_size == 0
        at = overlay.end
    assert at == -(-case.total_size // case.page_size) * case.page_size
    for one, next_one in zip(expected.overlays, expected.overlays[1:], strict=False):
        assert (one.memory, one.offset + one.end - one.start) != (next_one.memory, next_one.offset)


@given(cases(valid=True))
def test_what_is_generated_as_well_formed_must_be_mapped(case):
    assert expect(case).must_map
