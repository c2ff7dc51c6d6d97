"""What would make a page show what it shows, where that takes more than one file."""

from __future__ import annotations

from made_runs import VALID
from msgspec.structs import replace

from vfio_verify.judge.relations import Piece, Segments, explanations
from vfio_verify.values.backing import backings
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.model import Overlay, expect

OWN_FILES = Case(
    (Device((Region(0, 4 * PAGE), Region(1, 4 * PAGE)), region_files=True),),
    (RamBlock(0, 0, 0), RamBlock(0, 1, 0)),
    (Segment(0, 0, PAGE), Segment(1, PAGE, PAGE)),
    2 * PAGE,
)


def test_a_place_in_another_file_is_not_explained_by_the_terms_of_its_own_offset() -> None:
    first, second = (one.memory for one in backings(OWN_FILES))
    assert first != second
    segments = Segments(OWN_FILES, expect(OWN_FILES, "same-device").overlays)
    shown = Piece(0, (first, 0), (second, 3 * PAGE), shared=True, end=PAGE)
    assert explanations(shown, segments) == {frozenset({"other region"})}
    other_segments = shown._replace(got=(second, PAGE))
    assert explanations(other_segments, segments) == {frozenset({"other segment"})}


def test_a_segment_of_no_block_has_no_offset_of_which_a_term_could_be_lost() -> None:
    case = replace(VALID, iovec=(replace(VALID.iovec[0], block=None),))
    memory = next(backings(case)).memory
    segments = Segments(case, (Overlay(0, PAGE, memory, 0),))
    shown = Piece(0, (memory, 0), (memory, 1 << 40), shared=True, end=PAGE)
    assert explanations(shown, segments) == {frozenset({"elsewhere"})}
