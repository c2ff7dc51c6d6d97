"""How much of a mapping is compared: contents of up to 32,768 pages whole, beyond a sample, as docs/limits.md says."""

from __future__ import annotations

import pytest

from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.observation import Observation
from vfio_verify.worker.worker import Worker

WHOLE = 32_768
SAMPLE = 4096


def mapped(segments: int, pages: int) -> Observation:
    """What is seen of the core on so many segments. They continue each other, so that the kernel needs one VMA."""
    block = 64 * PAGE
    offsets = (i * pages % 64 * PAGE for i in range(segments))
    iovec = tuple(Segment(0, offset, pages * PAGE) for offset in offsets)
    case = Case((Device((Region(0, block),)),), (RamBlock(0, 0, 0),), iovec, segments * pages * PAGE)
    with Worker() as worker:
        (seen,) = worker.run(case, [()])
    assert seen.mapped
    assert not seen.differences
    assert seen.pages_total == segments * pages
    return seen


@pytest.mark.parametrize(("segments", "pages"), [(WHOLE, 1), (WHOLE // 2, 2), (WHOLE // 64, 64)])
def test_contents_of_32768_pages_are_compared_whole(segments: int, pages: int) -> None:
    assert mapped(segments, pages).pages_compared == WHOLE


@pytest.mark.parametrize(("segments", "pages"), [(WHOLE + 1, 1), (WHOLE, 2)])
def test_of_more_pages_a_sample_from_all_over_the_mapping_is_compared(segments: int, pages: int) -> None:
    assert SAMPLE // 2 <= mapped(segments, pages).pages_compared <= SAMPLE + pages
