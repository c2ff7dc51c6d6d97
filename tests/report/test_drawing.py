"""The drawing of a case: 80 columns of ASCII whatever the case, and true to where the segments are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from strategies import sequences

from vfio_verify.corpus.entry import Entry, Origin
from vfio_verify.generate.strategies import cases
from vfio_verify.report.drawing import dmabuf, expected_text, memory, shown
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment

SPARSE = Region(2, 0x8000, areas=(Area(0x1000, 0x2000), Area(0x4000, 0x3000)))


def case(*segments: Segment, total: int | None = None, faults: tuple[Fault, ...] = ()) -> Case:
    size = sum(segment.length for segment in segments) if total is None else total
    return Case(
        (Device((SPARSE,)),), (RamBlock(0, 2, 0), RamBlock(0, 2, 1), RamBlock(size=PAGE)), segments, size, faults
    )


TWO = (Segment(1, 0x1000, 0x1000), Segment(1, 0, 0x1000))


@given(cases() | sequences(), st.text(max_size=40), st.sampled_from([None, "same-device"]))
def test_whatever_the_case_it_is_80_columns_of_ascii(drawn, note, policy):
    lines = list(shown(Entry(drawn, Origin(note, "CONTENTS", note), note), policy or "same-block"))
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_the_dmabuf_is_tiled_in_iovec_order():
    assert list(dmabuf(case(*TWO))) == [
        "   dmabuf: 2 segments, 0x2000 bytes; total_size 0x2000",
        "   A                    +------------------------------------------------------+",
        "                        | 0  block 1 + 0x1000, 0x1000 bytes                    |",
        "   A+0x1000             +------------------------------------------------------+",
        "                        | 1  block 1, 0x1000 bytes                             |",
        "   A+0x2000             +------------------------------------------------------+",
    ]


def test_blocks_lie_in_their_areas_between_holes():
    assert list(memory(case(*TWO, Segment(None, 0, 0x1000)))) == [
        "   device 0, region 2: 0x8000 bytes",
        "     0x0             hole, 0x1000 bytes",
        "     0x1000          block 0, 0x2000 bytes, 0x1000 a character",
        "                     [..]",
        "     0x3000          hole, 0x1000 bytes",
        "     0x4000          block 1, 0x3000 bytes, 0x1000 a character",
        "                     [10.]",
        "     0x7000          hole, 0x1000 bytes",
        "   plain RAM",
        "     0x0             block 2, 0x1000 bytes, 0x1000 a character",
        "                     [.]",
        "   in no block: 2",
    ]


def test_what_total_size_leaves_over_or_cuts_off_is_drawn():
    over = "\n".join(dmabuf(case(*TWO, total=0x5000)))
    assert "no segment: 0x3000 bytes of total_size" in over
    assert over.splitlines()[-1].startswith("   A+0x5000 ")
    assert "total_size ends here, 0x1800 bytes before the end" in "\n".join(dmabuf(case(*TWO, total=0x800)))
    assert "0x4800 bytes, 0x4000 past its" in "\n".join(dmabuf(case(Segment(0, 0x1800, 0x4800))))


def test_many_segments_are_cut_short_and_large_blocks_are_scaled():
    lines = list(dmabuf(case(*(Segment(1, 0, 0x1000),) * 500)))
    assert len(lines) < 40
    assert any("484 more segments" in line for line in lines)
    large = Case(
        (Device((Region(0, 48 << 28),)),), (RamBlock(0, 0, 0),), (Segment(0, 24 << 28, 12 << 28),) * 2, 24 << 28
    )
    (bar,) = [line.strip() for line in memory(large) if "[" in line]
    assert len(bar) <= 50
    assert bar == "[" + "." * 24 + "*" * 12 + "." * 12 + "]"


def test_the_expectation_is_told():
    assert expected_text(case(*TWO)) == "must map"
    assert "must fail" in expected_text(case(*TWO, faults=(Fault("mmap", 1),)))
    assert expected_text(case(Segment(1, 0, 0x800))).startswith("may map or refuse")
    refused = expected_text(case(Segment(0, 0, 0x1000), Segment(1, 0, 0x1000), total=0x1000))
    assert "SAME_BLOCK: segments 0 and 1 lie in different RAMBlocks" in refused
    assert "SIZE_AGREES" in refused


def test_what_a_stranger_wrote_does_not_reach_the_terminal():
    text = "\n".join(shown(Entry(case(*TWO), Origin("a\x1b[2Jb", "CONTENTS", "\x07"), "\x1b]0;x\x07 \u202e")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[2Jb" in text
