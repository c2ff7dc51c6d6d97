"""Every broken subject is caught, under its clause and on a small case; no correct one raises an alarm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from short_checks import no_kernel_faults
from subject_files import BROKEN, CORRECT, SubjectFile, built_once

from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.generate.kernel_faults import why_not
from vfio_verify.values.spec import clauses

LAYOUTS_AND_SEED = 25, 1
"""Of a check: among so few is none of the long lists, which take most of the time of a larger one."""
OTHERS = {
    (50, 1): {
        *("area_offset_by_capability", "divided_by_entries", "entry_zero_read", "lengths_rounded_up"),
        *("missing_device_dereferenced", "no_entries_accepted", "no_entries_get_a_page", "overlays_locked"),
        "pairs_compared",
    },
    (50, 2): {"touching_blocks_merged"},
    (50, 6): {"odd_list_never_ends"},
    (50, 8): {"array_of_64", "bound_wraps", "counted_in_8_bits"},
    (50, 9): {
        *("hint_taken_for_answer", "last_page_clipped", "noreplace_not_compared", "offset_in_32_bits"),
        *("other_capabilities_refused", "refused_info_taken_as_zero"),
    },
    (50, 10): {"prefix_in_int", "status_never_set", "wrapped_end_and_sum"},
    (60, 1): {"over_128_entries_refused", "prefix_in_unsigned", "region_offset_ignored", "tail_of_batch_forgotten"},
    (152, 1): {"end_in_32_bits"},
    (154, 1): {"recursion_per_entry"},
    (500, 1): {"table_of_1000_overflowed"},
}
"""For subjects whose fault those do not show: it needs a long list, a rare layout, or many calls in one process."""
KERNEL_FAULTS = {
    *("access_mode_demanded", "assembly_answer_dropped", "error_on_success", "first_bytes_read"),
    *("pipe_end_kept_on_error", "positions_rounded_to_64k", "writable_first"),
}
"""Subjects whose fault kernel faults show, with no more layouts. The others are checked without them."""
CONCURRENT = {"base_in_static", "cache_without_lock"}
"""Subjects whose fault concurrent calls show. The others make these in few rounds."""
HANGING = {
    *("counted_in_8_bits", "length_counted_down", "lock_kept_on_refusal", "odd_list_never_ends", "retried_for_ever"),
}
OTHERWISE = {
    "checked_cache",
    "null_for_map_failed",
    "overlay_result_ignored",
    "sizes_compared_in_32_bits",
    "thread_local_state",
}
BEGUN_FIRST = {"recursion_per_entry", "table_of_1000_overflowed"}
SLOW = {"error_set_twice", "failed_munmap_taken_for_success", "result_remembered"}


def files(group: Sequence[SubjectFile]) -> Iterator[Any]:
    """With what holds for them under AddressSanitizer, and those that take long marked."""
    for file in group:
        name, marks = file.path.stem, []
        if name in OTHERWISE:
            marks = [pytest.mark.not_under_asan("wild addresses, 4 GiB and thread-local memory are otherwise there")]
        elif name in SLOW:
            marks = [pytest.mark.not_under_asan("it restarts its process hundreds of times, which takes minutes")]
        if name in BEGUN_FIRST:
            marks.append(pytest.mark.slow)
        yield pytest.param(file, marks=marks, id=name)


def layouts_and_seed(file: SubjectFile) -> tuple[int, int]:
    return next((pair for pair, names in OTHERS.items() if file.path.stem in names), LAYOUTS_AND_SEED)


def check_broken(file: SubjectFile, options: Options, *, kernel_faults: bool) -> None:
    with built_once(file.path) as subject:
        result = check(subject, options, why_no_kernel_fault=why_not if kernel_faults else no_kernel_faults)
    said = "\n".join(f"{', '.join(v.clauses)}: {v.summary}: {v.seen}" for v in result.confirmed)
    assert set(file.violates) <= {clause for v in result.confirmed for clause in v.clauses}, said
    failed = {v.clause for v in result.confirmed if clauses()[v.clause].fails_a_check}
    assert failed <= {*file.violates, *file.may_violate}, said


@pytest.mark.parametrize("file", list(files(BROKEN)))
def test_a_broken_subject_is_caught_under_its_clause(file: SubjectFile, request: pytest.FixtureRequest) -> None:
    name = file.path.stem
    if name in HANGING:
        request.getfixturevalue("impatient")
    if name not in CONCURRENT:
        request.getfixturevalue("few_rounds")
    examples, seed = layouts_and_seed(file)
    check_broken(file, Options(examples=examples, seed=seed), kernel_faults=name in KERNEL_FAULTS)


@pytest.mark.long
@pytest.mark.parametrize("file", list(files(BROKEN)))
def test_a_broken_subject_is_caught_under_its_clause_in_a_longer_check(file: SubjectFile) -> None:
    """More layouts, long lists and kernel faults add nothing that the subject does not violate."""
    examples, seed = layouts_and_seed(file)
    check_broken(file, Options(examples=max(examples, 400 if file.rare else 100), seed=seed), kernel_faults=True)


@pytest.mark.parametrize("file", list(files(CORRECT)))
def test_a_correct_subject_raises_no_alarm(file: SubjectFile) -> None:
    """A few thousand cases each; test_long_run.py has a million."""
    with built_once(file.path) as subject:
        result = check(subject, Options(examples=80))
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
