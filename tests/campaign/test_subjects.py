"""Every broken subject is caught, under its clause and on a small case; no correct one raises an alarm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from subject_files import BROKEN, CORRECT, SubjectFile

from vfio_verify.campaign.check import Result, check
from vfio_verify.campaign.options import Options
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.spec import clauses

MORE_LAYOUTS = {
    *("empty_entries_skipped", "no_entries_accepted", "offset_in_32_bits", "pairs_compared", "region_offset_ignored"),
    *(
        "longer_list_overlaid",
        "shorter_list_accepted",
        "gives_up_after_failure",
        "mappings_counted_up_only",
        "table_of_4_reused",
        "devices_compared",
        "over_128_entries_refused",
        "array_of_64",
        "blocks_not_compared",
        "counted_in_8_bits",
        "first_regions_descriptor",
        "offset_from_index",
        "hint_taken_for_answer",
        "noreplace_not_compared",
        "overlays_locked",
        "placeholder_looked_for_after_mremap",
        "guard_pages_of_4096",
        "odd_list_never_ends",
        "area_offset_by_capability",
        "bounded_by_region_size",
        "last_page_clipped",
        "other_capabilities_refused",
        "sizes_compared_in_64k",
        "touching_blocks_merged",
    ),
}
"""Subjects whose fault one layout in a hundred shows, or a sequence."""
WHOLE_CHECK = {"table_of_1000_overflowed"}
"""Those that need the many calls in one process that a check of the usual length makes."""


def check_file(file: SubjectFile, seed: int, examples: int) -> Result:
    with open_subject(str(file.path)) as subject:
        return check(subject, Options(examples=examples, seed=seed))


OTHERWISE = {"null_for_map_failed", "overlay_result_ignored", "sizes_compared_in_32_bits", "thread_local_state"}
SLOW = {"error_set_twice", "failed_munmap_taken_for_success", "result_remembered"}


def files(group: Sequence[SubjectFile]) -> Iterator[Any]:
    """With what holds for them under AddressSanitizer."""
    for file in group:
        name, marks = file.path.stem, []
        if name in OTHERWISE:
            marks = [pytest.mark.not_under_asan("wild addresses, 4 GiB and thread-local memory are otherwise there")]
        elif name in SLOW:
            marks = [pytest.mark.not_under_asan("it restarts its process hundreds of times, which takes minutes")]
        yield pytest.param(file, marks=marks, id=name)


@pytest.mark.parametrize("file", list(files(BROKEN)))
def test_a_broken_subject_is_caught_under_its_clause(file: SubjectFile) -> None:
    name = file.path.stem
    examples = 1000 if name in WHOLE_CHECK else 400 if file.rare else 250 if name in MORE_LAYOUTS else 100
    result = check_file(file, seed=1, examples=examples)
    said = "\n".join(f"{', '.join(v.clauses)}: {v.summary}: {v.seen}" for v in result.confirmed)
    assert set(file.violates) <= {clause for v in result.confirmed for clause in v.clauses}, said
    failed = {v.clause for v in result.confirmed if clauses()[v.clause].fails_a_check}
    assert failed <= {*file.violates, *file.may_violate}, said


@pytest.mark.parametrize("file", list(files(CORRECT)))
def test_a_correct_subject_raises_no_alarm(file: SubjectFile) -> None:
    """A few thousand cases each; test_long_run.py has a million."""
    result = check_file(file, seed=0, examples=80)
    assert not [violation for violation in result.confirmed if clauses()[violation.clause].fails_a_check]
    assert not result.unconfirmed
    assert result.tally.checked["ACCEPTS_VALID"] > 25


def test_every_clause_is_violated_by_a_broken_subject() -> None:
    """A check that nothing can fail is not a check."""
    assert {file.violates[0] for file in BROKEN} == set(clauses())


def test_the_spec_names_the_subjects_that_violate_each_clause() -> None:
    for name, clause in clauses().items():
        written_for_it = sorted(file.path.stem for file in BROKEN if file.violates[0] == name)
        assert list(clause.subjects) == written_for_it, name
