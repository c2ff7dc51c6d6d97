"""Merging: nothing that was exercised is lost, nothing that adds nothing stays, and the order does not matter."""

from __future__ import annotations

import random

from msgspec.structs import replace

from vfio_verify.corpus.entry import Entry, Origin
from vfio_verify.corpus.merge import exercised, merged
from vfio_verify.generate.packed import packed_case
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.features import features

ONE = Case((Device((Region(0, 8 * PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


def drawn(count: int) -> list[Entry]:
    """Cases as a campaign has them, some of them findings."""
    chance = random.Random(7)
    entries = []
    for number in range(count):
        case = packed_case(chance.randbytes(160))
        if number % 3 == 0:
            case = case.with_faults(Fault("mmap", chance.randint(1, 3), chance.choice(["ENOMEM", "EINVAL"])))
        origin = Origin("x.c", chance.choice(["CONTENTS", "NO_LEAK"]), chance.choice("ab")) if number % 4 == 0 else None
        entries.append(Entry(case, origin))
    return entries


def everything(entries: list[Entry]) -> set[object]:
    """What a set of cases exercises, told without the code under test."""
    features_met = {feature for entry in entries for feature in features(entry.case)}
    return features_met | {(entry.origin.clause, entry.origin.cause) for entry in entries if entry.origin}


def test_nothing_that_was_exercised_is_lost_and_nothing_superfluous_stays():
    entries = drawn(400)
    kept = merged(entries)
    assert everything(kept) == everything(entries)
    assert len(kept) < 60
    for entry in kept:
        assert everything([other for other in kept if other is not entry]) < everything(kept)


def test_the_order_of_the_sources_does_not_matter():
    entries = drawn(120)
    names = [entry.name for entry in merged(entries)]
    assert [entry.name for entry in merged(entries[::-1])] == names
    assert [entry.name for entry in merged(entries * 2)] == names


def test_of_one_cause_the_smallest_case_stays():
    larger = replace(ONE, iovec=(Segment(0, 0, PAGE),) * 2, total_size=2 * PAGE)
    small, large = (Entry(case, Origin("x.c", "CONTENTS", "a")) for case in (ONE, larger))
    kept = merged([large, small])
    assert small in kept
    other = Entry(larger, Origin("x.c", "CONTENTS", "b"))
    assert other in merged([small, other])


def test_a_finding_is_exercised_by_its_clause_and_cause():
    assert ("CONTENTS", "a") in exercised(Entry(ONE, Origin("x.c", "CONTENTS", "a")))
    assert exercised(Entry(ONE)) == features(ONE)


def test_cases_of_a_world_with_other_conventions_stand_for_themselves():
    origin = Origin("x.c", "CONTENTS", "a")
    plain, assumed = (Entry(replace(ONE, assume=some), origin) for some in ((), ("vfio_device_lookup=0",)))
    assert {entry.name for entry in merged([assumed, plain])} == {assumed.name, plain.name}
    assert exercised(assumed).isdisjoint(exercised(plain))
