"""Every subject by CBMC: `tox -e prove`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import commands
import pytest
from subject_files import BROKEN, CORRECT

from vfio_verify.prove.proof import provable

SEGMENTS = os.environ.get("VFIO_VERIFY_PROVE_SEGMENTS", "2")
"""Of the layouts for which correct subjects are proved."""
NOT_IN_MODEL = re.compile(
    r"at the end of a scope \(cleanup\)|assembly|is not in the model|the model does not have|"
    r"of which the model has no bytes|a loop of more than|the subject has no errp"
)


def proved(*arguments: object, cwd: Path) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of a proof, which may take long."""
    told = commands.started("prove", *arguments, "--json", "-", cwd=cwd)
    report = json.loads(told.communicate(timeout=1800)[0])
    return told.returncode, report


@pytest.mark.prove
@pytest.mark.parametrize("subject", CORRECT, ids=lambda subject: subject.path.stem)
def test_a_correct_subject_is_proved(cbmc, tmp_path, subject):
    """All that rests on nothing which the model does not have."""
    status, report = proved(subject.path, "--segments", SEGMENTS, cwd=tmp_path)
    assert status in (0, 4)
    assert (report["violations"], report["proof"].get("disagreements", [])) == ([], [])
    left = {one["id"]: one["proof"] for one in report["clauses"] if one["status"] != "proved"}
    assert {name: why for name, why in left.items() if not NOT_IN_MODEL.search(why)} == {}


DECIDED = [subject for subject in BROKEN if subject.violates[0] in provable()]
BEYOND = {
    "adjacent_mappings_merged": "mappings that touch",
    "array_of_64": "65 entries",
    "base_in_static": "threads",
    "cache_without_lock": "threads",
    "counted_in_8_bits": "256 entries",
    "error_in_static": "threads",
    "error_on_success": "65 entries",
    "failed_munmap_reported_twice": "two faults",
    "failed_munmap_taken_for_success": "two faults",
    "cleanup_ends_at_failed_munmap": "two faults",
    "first_two_compared": "three entries",
    "guard_pages_of_4096": "other pages",
    "high_regions_refused": "regions of higher numbers",
    "mappings_counted_up_only": "five calls",
    "middle_addresses_rounded_down": "three entries",
    "odd_list_never_ends": "seven entries",
    "offsets_in_static_array": "threads",
    "over_128_entries_refused": "129 entries",
    "pairs_compared": "three entries",
    "recursion_per_entry": "thousands of entries",
    "region_info_in_static": "threads",
    "reversed_order": "the order of overlays: CONTENTS says it",
    "table_of_1000_overflowed": "1,001 entries",
    "table_of_20_asserted": "21 entries",
    "table_of_4_reused": "five calls",
    "tail_of_batch_forgotten": "17 entries",
}
"""Broken subjects that show it beyond the bounds of a proof, and by what."""


@pytest.mark.prove
@pytest.mark.parametrize("subject", DECIDED, ids=lambda subject: subject.path.stem)
def test_a_broken_subject_is_refuted_under_its_clause(cbmc, tmp_path, subject):
    clause = subject.violates[0]
    _, report = proved(subject.path, "--clause", clause, "--timeout", "20m", cwd=tmp_path)
    (entry,) = [one for one in report["clauses"] if one["id"] == clause]
    if subject.path.stem in BEYOND:
        assert entry["status"] != "violated"
    else:
        assert entry["status"] == "violated" or NOT_IN_MODEL.search(entry["proof"])
    assert report["proof"].get("disagreements", []) == []
