"""Features: each has a case that has it, and its neighbour that has not; generated cases reach them all."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from vfio_verify.generate.packed import packed_case
from vfio_verify.values.case import (
    PAGE,
    Area,
    Call,
    Case,
    Change,
    Device,
    Drop,
    End,
    Fault,
    Fork,
    KernelFault,
    RamBlock,
    Region,
    Segment,
)
from vfio_verify.values.features import FEATURES, features

SPARSE = Region(9, 8 * PAGE, areas=(Area(0, PAGE), Area(4 * PAGE, 2 * PAGE)), writable=False)
PLAIN = Case(
    (
        Device((Region(0, 8 * PAGE),)),
        Device((SPARSE,), "areas", region_fds=True),
        Device((Region(0, PAGE, offset=PAGE),), "file", region_fds=True, region_files=True),
    ),
    (RamBlock(0, 0, 0), RamBlock(1, 9, 1), RamBlock(size=4 * PAGE), RamBlock(2, 0, 0)),
    (Segment(0, 0, PAGE),),
    PAGE,
)


def of(*segments: Segment, total: int | None = None, **fields) -> frozenset[str]:
    total = sum(segment.length for segment in segments) % (1 << 64) if total is None else total
    return features(replace(PLAIN, iovec=segments, total_size=total, **fields))


FIRST = Segment(0, 0, PAGE)


@pytest.mark.parametrize(
    ("segments", "has"),
    [
        ((), {"segments: none", "expected: refuses"}),
        ((FIRST,), {"segments: 1", "region: index 0", "expected: maps", "devices: several"}),
        ((FIRST,) * 5, {"segments: 4 to 6", "segments: repeated"}),
        ((FIRST, Segment(0, PAGE, PAGE)), {"segments: adjacent", "segments: 2"}),
        ((Segment(0, PAGE, PAGE), FIRST), {"segments: descending"}),
        ((Segment(0, 0, 2 * PAGE), Segment(0, PAGE, PAGE)), {"segments: overlapping", "segment: several pages"}),
        ((FIRST, Segment(2, 0, PAGE)), {"blocks: several", "block: plain RAM"}),
        ((Segment(None, 0, PAGE),), {"block: none"}),
        ((Segment(0, 7 * PAGE, PAGE),), {"block: at its very end"}),
        ((Segment(0, 7 * PAGE, 2 * PAGE),), {"block: past its end"}),
        ((Segment(0, 0, 8 * PAGE), Segment(0, 0, (1 << 64) - PAGE)), {"total: the sum overflows"}),
        ((Segment(0, 0, 9), FIRST), {"misaligned: length, not last"}),
        ((FIRST, Segment(0, 0, 9)), {"misaligned: length, last", "expected: either"}),
        ((Segment(0, 8, PAGE),), {"misaligned: address"}),
        ((FIRST, Segment(0, 0, 0)), {"empty: a segment"}),
        ((Segment(0, 0, (4 << 30) + PAGE),), {"segment: over 4 GiB", "segment: over 2 GiB"}),
        (
            (Segment(3, 0, PAGE),),
            {"device: a file for each region", "device: its regions are in ordinary files"}
            | {"region: at an offset of its own", "device: a descriptor for each region"},
        ),
        (
            (Segment(1, 0, PAGE),),
            {
                "region: sparse",
                "region: second area",
                "region: read-only",
                "region: other index",
                "region: index over 8",
            }
            | {"device: its areas bound its mmap", "device: a descriptor for each region"},
        ),
    ],
)
def test_a_layout_has_its_features_and_the_plain_one_has_not(segments, has):
    assert has <= of(*segments)
    if segments != (FIRST,):
        assert not (has - {"expected: refuses"}) & of(FIRST)


def test_wrong_totals_are_told_apart():
    assert "total: too large" in of(FIRST, total=PAGE + 1)
    assert "total: too small" in of(FIRST, total=0)
    assert not {feature for feature in of(FIRST) if feature.startswith("total")}


def test_what_fails_and_what_else_is_called_are_features():
    plan = (Fault("mmap", 2, "ENOMEM", "late", True), Fault("munmap", 1))
    met = of(FIRST, fault_plan=plan)
    assert {"fault: mmap, late, for good", "fault: mmap with ENOMEM", "fault: mmap, not the first"} <= met
    assert {"fault: munmap, early", "fault: several"} <= met
    call = Call((FIRST,), PAGE)
    met = of(FIRST, sequence=(call, End(0), Change(0, 0), Drop(1), Fork()), errp="null")
    assert {f"sequence: {name}" for name in ("call again", "end a mapping", "change memory", "drop a RAM block")} < met
    assert {"sequence: fork", "errp: NULL"} < met
    other = Call((Segment(1, 0, PAGE),), PAGE)
    assert "threads: one block" in of(FIRST, concurrent=(call,))
    assert "threads: several blocks" in of(FIRST, concurrent=(other,))
    assert "kernel: map count, in the call" in of(FIRST, kernel_fault=KernelFault("map_count", 2))
    assert "kernel: sealed, before the call" in of(FIRST, kernel_fault=KernelFault("sealed"))
    assert "earlier calls" in of(FIRST, earlier=(PLAIN,))


def test_generated_cases_reach_every_feature_of_a_layout():
    chance = random.Random(1)
    left = set(FEATURES)
    for _ in range(20_000):
        left -= features(packed_case(chance.randbytes(160)))
        if not left:
            break
    assert not left
