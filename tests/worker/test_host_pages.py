"""Hosts whose pages are larger than this machine's: imitated for the subject, and for what is expected of it."""

from __future__ import annotations

import pytest
from case_texts import from_json
from msgspec.structs import replace
from subject_files import DIRECTORY, built_once, needs_compiler

from vfio_verify.campaign.check import check_case
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.subject.subject import CORE
from vfio_verify.values.case import (
    PAGE,
    PAGE_SIZES,
    Call,
    Case,
    Device,
    End,
    Fault,
    Fork,
    Kernel,
    RamBlock,
    Region,
    Segment,
    check,
)  # fmt: skip
from vfio_verify.values.features import features
from vfio_verify.values.model import expect
from vfio_verify.worker.worker import Worker

LARGER = [size for size in PAGE_SIZES if size > PAGE]


def plain(page: int) -> Case:
    device = Device((Region(1, 8 * page),))
    return Case(
        (device,), (RamBlock(0, 1, 0),), (Segment(0, 0, page), Segment(0, 2 * page, 2 * page)), 3 * page, page_size=page
    )


def with_segments(case: Case, *iovec: Segment) -> Case:
    return replace(case, iovec=iovec, total_size=sum(s.length for s in iovec))


@pytest.mark.parametrize("page", LARGER)
def test_the_core_maps_what_it_must_and_refuses_a_guests_small_pages(page):
    case = plain(page)
    guests = with_segments(case, Segment(0, PAGE, PAGE))
    inside = with_segments(case, Segment(0, 0, PAGE), Segment(0, page, page))
    last = with_segments(case, Segment(0, page, page), Segment(0, 0, PAGE))
    sequence = replace(case, sequence=(Call((Segment(0, page, page),), page), End(0), Fork(), End(1)))
    late = case.with_faults(Fault("mmap", 3, "ENODEV", "late"))
    assert [r.clause for r in expect(guests).refusals] == ["ALIGNED"]
    assert [r.clause for r in expect(inside).refusals] == ["ALIGNED"]
    assert expect(last).either
    assert expect(case).must_map
    for one in (case, guests, inside, last, sequence, late, replace(case, kernel=Kernel(hints=False))):
        assert not check_case(CORE, Options(), one).confirmed


@needs_compiler
@pytest.mark.parametrize("page", LARGER)
def test_a_helper_that_takes_a_page_for_4_kib_is_caught(page):
    with built_once(DIRECTORY / "broken" / "guard_pages_of_4096.c") as subject:
        assert not check_case(subject, Options(), plain(PAGE)).confirmed
        assert "ACCEPTS_VALID" in [v.clause for v in check_case(subject, Options(), plain(page)).confirmed]
    with built_once(DIRECTORY / "correct" / "guard_pages_given_back.c") as subject:
        assert not check_case(subject, Options(), plain(page)).confirmed


@pytest.mark.parametrize("page", LARGER)
def test_a_case_says_the_pages_of_its_host(page):
    case = plain(page)
    check(case)
    assert from_json(case.to_json()) == case
    assert f"host pages: {page >> 10} KiB" in features(case)


@pytest.mark.parametrize("page", [PAGE // 2, PAGE * 2, 12288, 1 << 20])
def test_other_sizes_of_pages_are_refused(page):
    with pytest.raises(InputError, match=f"pages of {page} bytes"):
        check(replace(plain(PAGE), page_size=page))


@needs_compiler
def test_a_helper_may_remember_the_size_of_a_page():
    """Another host is another process."""
    with (
        built_once(DIRECTORY / "correct" / "page_size_remembered.c") as subject,
        Worker(subject.library) as worker,
    ):
        for page in (PAGE, *LARGER, PAGE):
            assert worker.run(plain(page))[0].mapped
        assert worker.restarts == len(LARGER) + 1
