"""Lists of thousands of entries: every campaign meets some, and they take no longer than they must."""

from __future__ import annotations

import pytest
from subject_files import DIRECTORY, needs_compiler

from vfio_verify.campaign.check import check_case
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import run_shard
from vfio_verify.campaign.shards import Shard
from vfio_verify.generate.long_lists import fewest_neighbours, limited, list_of, long_list
from vfio_verify.generate.sweep import positions
from vfio_verify.subject.subject import CORE, open_subject
from vfio_verify.values.case import MAX_SEGMENTS, check
from vfio_verify.values.model import expect
from vfio_verify.worker.answers import Kind
from vfio_verify.worker.limits import Limits, Patience, share_of


@pytest.mark.parametrize(("count", "neighbours"), [(1025, 1), (4096, 16), (100, 7)])
def test_a_list_must_be_mapped_and_has_as_few_mappings_as_it_says(count, neighbours):
    case = list_of(count, neighbours)
    check(case)
    expected = expect(case)
    assert expected.must_map
    assert len(expected.overlays) == -(-count // neighbours)
    assert len(case.iovec) == count


def test_where_few_mappings_are_allowed_more_entries_are_one_mapping():
    assert fewest_neighbours(16_384, 65_530) == 1
    assert fewest_neighbours(65_536, 65_530) > 1
    for limit in (2_000, 8_000, 65_530):
        for count in (1025, 16_384, MAX_SEGMENTS):
            neighbours = fewest_neighbours(count, limit)
            assert 2 * -(-count // neighbours) < limit
    assert fewest_neighbours(10, 5) == 10
    assert limited(65_530) is None
    said = limited(20_000) or ""
    assert said.startswith("Lists of 16,384 entries had more neighbours that are one mapping than elsewhere")
    assert said.endswith("vm.max_map_count is 20,000 here.")


def test_each_campaign_begins_some_shards_with_a_long_list():
    lists = [case for number in range(10) if (case := long_list(number)) is not None]
    assert [len(case.iovec) for case in lists] == [1025, 16_384, MAX_SEGMENTS]


def test_a_shard_meets_its_long_list_under_a_few_faults():
    result = run_shard(CORE, Options(), Shard(2, 1, 4))
    assert result.tally.features["segments: 257 to 4096"] >= 1
    assert not result.candidates.found
    assert len(positions(1025)) == 2


@needs_compiler
def test_a_stack_that_is_used_deeply_is_no_mapping_that_is_left_and_one_that_overflows_is_seen():
    """1,500 frames need more than the 4 MiB that have long been there; 4,096 need more than there is."""
    with open_subject(str(DIRECTORY / "broken" / "recursion_per_entry.c")) as subject:
        assert not check_case(subject, Options(), list_of(1500, 16)).confirmed
        assert [v.clause for v in check_case(subject, Options(), list_of(4096, 64)).confirmed] == ["SURVIVES"]


def test_a_call_may_take_longer_with_thousands_of_entries():
    limits = Limits(cpu_seconds=1, sleep_seconds=3)
    for segments, end in ((MAX_SEGMENTS, None), (16, Kind.HANG)):
        patience = Patience(limits, share_of(segments))
        assert [patience.end(0, "R", used) for used in (0.0, 5.0)] == [None, end]
