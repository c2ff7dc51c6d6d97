"""The judge, by observations made by hand: each clause violated, held, and not exercised; and what is excused."""

from __future__ import annotations

import errno
import mmap

import msgspec
import pytest
from made_runs import (
    AGAIN,
    EITHER,
    FAILED,
    GOOD,
    HOST,
    LARGE,
    NOREPLACE,
    RESERVING,
    RUNS,
    SEQUENCE,
    VALID,
    WHOLE,
    A,
    B,
    call,
    causes,
    dead,
    failed,
    failure,
    munmap,
    overlay,
    page,
    reserve,
    runs,
    status,
    step,
    steps,
    success,
    told,
    violated,
)

from vfio_verify.judge.sequence import judge_sequence, step_text
from vfio_verify.values.case import PAGE, Change, Drop, End, Fork, KernelFault, Segment
from vfio_verify.values.observation import (
    ANONYMOUS,
    BY_KERNEL,
    BY_RULE,
    ERROR_SET_TWICE,
    FAULTED,
    MAX_STRAYS,
    OTHER,
    OUTSIDE,
    OWNED,
    RAM,
    READ,
    REFUSED,
    SHARED,
    STILL_READABLE,
    TOOK_AWAY,
    UNPLANNED,
    WRITE,
    Difference,
    MappingSeen,
    Observation,
    Run,
    StepSeen,
)
from vfio_verify.values.spec import clauses

# ---- all clauses -------------------------------------------------------------------------------------------


def test_a_run_as_it_should_be_violates_nothing_and_exercises_what_it_can():
    verdict = told(success())
    assert verdict.violations == ()
    assert verdict.checked == {
        *("CONTIGUOUS", "CONTENTS", "READ_ONLY", "ACCEPTS_VALID", "ERROR_SET", "CONFINED", "NO_WINDOW", "NO_LEAK"),
        *("REPEATABLE", "SURVIVES"),
    }


def test_a_failure_as_it_should_be_violates_nothing():
    verdict = told(failure([reserve(), failed(overlay(0, 1, 0)), munmap()]))
    assert verdict.violations == ()
    assert {"FAULT_REPORTED", "UNMAP_ON_ERROR", "ERROR_SET", "NO_WINDOW", "NO_LEAK"} <= verdict.checked
    assert not {"ACCEPTS_VALID", "CONTIGUOUS", "CONTENTS", "READ_ONLY", "REPEATABLE"} & verdict.checked


def test_a_death_is_judged_by_nothing_but_what_it_proves():
    assert told(dead(signal=11)).checked == {"SURVIVES"}


def test_a_violation_carries_its_case_and_its_observation():
    what = success(runs=())
    violation = told(what).violations[0]
    assert violation.case == VALID
    assert violation.observation is what


def test_findings_of_one_cause_are_told_once():
    what = success(differences=(Difference(1, 0, 0, 1, 2), Difference(1, 1, 8, 1, 2)))
    assert [violation.clause for violation in told(what).violations] == ["CONTENTS"]


# ---- CONTIGUOUS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"runs": ()},
        {"runs": runs((0, None))},
        {"runs": runs((1, None))},
        {"runs": runs((2, None))},
        {"runs": runs((1, page(1, SHARED, OTHER)))},
        {"runs": runs((1, page(1, READ | SHARED, OTHER)))},
        {"runs": runs((1, page(1, READ, ANONYMOUS)))},
        {"address": A + 8},
        {"address": 0},
        {"strays": (Run(3 * PAGE, 4 * PAGE, SHARED, OTHER, 0),), "pages_after": 1004},
        {"pages_after": 1004},
        {"pages_after": 1002},
    ],
    ids=[
        *("nothing", "hole first", "hole", "hole last", "placeholder", "other file", "anonymous"),
        *("misaligned", "NULL", "stray", "page too many", "page too few"),
    ],
)
def test_a_mapping_that_is_not_tiled_violates_contiguous(fields):
    assert status("CONTIGUOUS", success(**fields)) == "violated"


def test_overlays_in_another_order_than_the_iovecs_violate_contiguous_and_contents():
    case = msgspec.structs.replace(VALID, iovec=(Segment(0, 0, PAGE), Segment(0, 2 * PAGE, PAGE)), total_size=2 * PAGE)
    swapped = success(runs=(page(0, offset=2 * PAGE), page(1, offset=0)), pages_after=1002)
    assert violated(swapped, case) == {"CONTIGUOUS", "CONTENTS"}


def test_pages_merged_or_not_tile_as_well():
    assert status("CONTIGUOUS", success()) == status("CONTIGUOUS", success(runs=runs())) == "holds"


def test_a_misaligned_last_length_is_tiled_to_the_end_of_its_page():
    whole = (page(0), Run(PAGE, 3 * PAGE, READ | SHARED, 0, 2 * PAGE))
    assert status("CONTIGUOUS", success(runs=whole), EITHER) == "holds"
    assert status("CONTIGUOUS", success(runs=(page(0), page(1, offset=2 * PAGE))), EITHER) == "violated"


# ---- CONTENTS, READ_ONLY -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"runs": runs((1, page(1, offset=7 * PAGE)))},
        {"runs": runs((1, page(1, memory=1, offset=2 * PAGE)))},
        {"runs": runs((1, page(1, memory=RAM, offset=2 * PAGE)))},
        {"runs": runs((1, page(1, READ | SHARED, ANONYMOUS)))},
        {"runs": runs((1, page(1, READ, 0, 2 * PAGE)))},
        {"differences": (Difference(1, 0, 8, 1, 2),)},
        {"differences": (Difference(2, 0, 0, 1, 2),)},
        {"differences": (Difference(3, 1, 0, 1, 2),)},
    ],
    ids=["offset", "device", "plain RAM", "anonymous", "private", "word", "device unseen", "guest unseen"],
)
def test_other_memory_than_the_segments_violates_contents(fields):
    assert status("CONTENTS", success(**fields)) == "violated"


def test_a_page_that_can_be_read_when_the_devices_memory_is_gone_violates_contents():
    case = msgspec.structs.replace(VALID, kernel_fault=KernelFault("truncated"))
    what = success(differences=(Difference(STILL_READABLE, 1, PAGE, 1 << 60, 0x41),), pages_compared=3, pages_total=3)
    assert status("CONTENTS", what, case) == "violated"
    (violation,) = told(what, case).violations
    assert violation.expected == "segment 1, byte 0x1000: SIGBUS, as when iov_base[k] is read"
    assert status("CONTENTS", success(), case) == "holds"


def test_holes_and_placeholder_pages_are_no_matter_of_contents():
    what = success(runs=runs((0, None), (1, page(1, SHARED, OTHER))), differences=(Difference(4, 0, 0, 1, 0),))
    assert status("CONTENTS", what) == "holds"
    assert status("CONTIGUOUS", what) == "violated"


def test_the_summary_names_the_page_that_is_wrong():
    what = success(runs=runs((1, page(1, memory=1, offset=(2 << 40) + 3 * PAGE))))
    (violation,) = (v for v in told(what).violations if v.clause == "CONTENTS")
    assert violation.expected == "at A+0x1000: device 0, region 0 + 0x2000"
    assert violation.seen == "at A+0x1000: device 1, 0x20000003000 of its file, where no region is"


@pytest.mark.parametrize("flags", [READ | WRITE | SHARED, READ | SHARED | 4, READ, WRITE | SHARED])
def test_access_other_than_shared_and_readable_violates_read_only(flags):
    assert status("READ_ONLY", success(runs=runs((2, page(2, flags, 0, 3 * PAGE))))) == "violated"


def test_shared_and_readable_pages_hold_read_only_and_placeholders_are_contiguous_matter():
    assert status("READ_ONLY", success()) == "holds"
    assert status("READ_ONLY", success(runs=runs((1, page(1, SHARED, OTHER))))) == "holds"


@pytest.mark.parametrize("clause", ["CONTIGUOUS", "CONTENTS", "READ_ONLY", "REPEATABLE"])
def test_what_is_not_mapped_or_was_not_to_be_has_no_tiles(clause):
    wrong_total = msgspec.structs.replace(VALID, total_size=PAGE)
    assert status(clause, failure()) == "not exercised"
    assert status(clause, dead()) == "not exercised"
    assert status(clause, success(runs=(), second=None), wrong_total) == "not exercised"


# ---- ACCEPTS_VALID, and what is refused --------------------------------------------------------------------


def test_a_refused_valid_layout_violates_accepts_valid():
    assert status("ACCEPTS_VALID", failure(message=b"too many")) == "violated"
    assert status("ACCEPTS_VALID", success()) == "holds"


def test_what_may_be_refused_what_must_be_and_what_died_do_not_exercise_accepts_valid():
    wrong_total = msgspec.structs.replace(VALID, total_size=PAGE)
    assert status("ACCEPTS_VALID", failure(), EITHER) == "not exercised"
    assert status("ACCEPTS_VALID", failure(), wrong_total) == "not exercised"
    assert status("ACCEPTS_VALID", dead()) == "not exercised"


def test_a_planned_fault_excuses_a_failure():
    assert status("ACCEPTS_VALID", failure([failed(reserve())])) == "not exercised"
    assert status("ACCEPTS_VALID", failure([call("find_block", HOST, flags=FAULTED, error=1)])) == "not exercised"


def test_a_refusal_by_the_devices_rules_excuses_nothing():
    refused = failed(overlay(0, 1, 99), errno.EINVAL, flags=BY_RULE | TOOK_AWAY)
    assert status("ACCEPTS_VALID", failure([reserve(), refused, munmap()])) == "violated"


@pytest.mark.parametrize("kind", ["read_only_descriptor", "sealed"])
def test_what_is_enough_for_reading_excuses_no_failure(kind):
    case = msgspec.structs.replace(VALID, kernel_fault=KernelFault(kind))
    refused = failed(overlay(0, 1, 0), errno.EACCES, flags=UNPLANNED)
    what = failure([reserve(), refused, munmap()])
    assert status("ACCEPTS_VALID", what, case) == "violated"
    (violation,) = (v for v in told(what, case).violations if v.clause == "ACCEPTS_VALID")
    assert "although" in violation.summary
    assert status("ACCEPTS_VALID", success(), case) == "holds"


@pytest.mark.parametrize(
    "kind", ["address_space", "map_count", "closed_descriptor", "write_only_descriptor", "seccomp", "hugetlb"]
)
def test_a_failure_that_the_kernel_was_made_to_cause_is_excused_though_nobody_saw_it(kind):
    """A call in assembly has no event."""
    case = msgspec.structs.replace(VALID, kernel_fault=KernelFault(kind, 2))
    assert status("ACCEPTS_VALID", failure([reserve(), munmap()]), case) == "not exercised"


def test_memory_cut_off_before_the_call_returns_may_be_refused_and_after_it_not():
    cut_off = [msgspec.structs.replace(VALID, kernel_fault=KernelFault("truncated", at)) for at in (0, 1)]
    assert [status("ACCEPTS_VALID", failure(), case) for case in cut_off] == ["violated", "not exercised"]


@pytest.mark.parametrize("error", [errno.ENOMEM, errno.EAGAIN])
def test_a_kernel_without_memory_excuses_a_failure(error):
    starved = failed(reserve(), error, flags=UNPLANNED)
    assert status("ACCEPTS_VALID", failure([starved])) == "not exercised"


def test_a_kernel_without_memory_for_far_more_than_the_total_excuses_nothing():
    """A subject that asks for the wrong size is not starved."""
    assert status("ACCEPTS_VALID", failure([failed(reserve(1 << 50), flags=UNPLANNED)])) == "violated"


def test_another_error_of_the_kernel_excuses_nothing():
    assert status("ACCEPTS_VALID", failure([failed(reserve(), errno.EINVAL, flags=UNPLANNED)])) == "violated"


REFUSALS = {
    "SAME_BLOCK": msgspec.structs.replace(VALID, iovec=(Segment(0, 0, PAGE), Segment(1, 0, 2 * PAGE))),
    "SIZE_AGREES": msgspec.structs.replace(VALID, total_size=4 * PAGE),
    "WITHIN_BLOCK": msgspec.structs.replace(VALID, iovec=(Segment(0, 14 * PAGE, 3 * PAGE),)),
    "ALIGNED": msgspec.structs.replace(VALID, iovec=(Segment(0, 8, 3 * PAGE),)),
    "NOT_EMPTY": msgspec.structs.replace(VALID, iovec=(*VALID.iovec, Segment(0, 0, 0))),
}


@pytest.mark.parametrize("clause", REFUSALS)
def test_each_reason_to_refuse_is_its_own_clause(clause):
    case = REFUSALS[clause]
    assert violated(success(second=None), case) == {clause}
    assert status(clause, failure(), case) == "holds"
    assert status(clause, success()) == "not exercised"
    assert status(clause, dead(), case) == "not exercised"


def test_two_reasons_to_refuse_are_two_violations():
    both = msgspec.structs.replace(REFUSALS["WITHIN_BLOCK"], total_size=1)
    assert violated(success(second=None), both) == {"WITHIN_BLOCK", "SIZE_AGREES"}


# ---- FAULT_REPORTED ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        failed(overlay(1, 2, 2)),
        failed(overlay(1, 2, 2), flags=FAULTED | TOOK_AWAY),
        call("mremap", A, PAGE, PAGE, result=FAILED, error=errno.ENOMEM, flags=FAULTED),
        call("find_block", HOST, result=FAILED, error=errno.EINVAL, flags=FAULTED),
        call("find_device", HOST, result=FAILED, error=errno.EINVAL, flags=FAULTED),
        call("find_index", 0, result=FAILED, error=errno.EINVAL, flags=FAULTED),
        call("find_region", 0, result=FAILED, error=errno.EINVAL, flags=FAULTED),
        call("region_info", 0, result=FAILED, error=errno.EIO, flags=FAULTED),
    ],
)
def test_success_after_a_failed_step_violates_fault_reported(event):
    """Whatever the failed step was to do is not done: a mapping step's pages are not there."""
    events = [reserve(), event, overlay(0, 1, 0)]
    missing = runs((1, page(1, SHARED, ANONYMOUS)), (2, page(2, SHARED, ANONYMOUS))) if event.step < 4 else RUNS
    seen = success(events, runs=missing, second=None)
    assert status("FAULT_REPORTED", seen) == "violated"
    assert status("FAULT_REPORTED", failure([*events, munmap()])) == "holds"


def test_a_step_done_again_with_success_is_excused():
    again = [reserve(), failed(overlay(0, 1, 0), errno.EAGAIN), overlay(0, 1, 0), overlay(1, 2, 2)]
    assert status("FAULT_REPORTED", success(again)) == "not exercised"


@pytest.mark.parametrize(
    "events",
    [
        [failed(reserve(8 * PAGE)), reserve(), *GOOD[1:]],
        [failed(reserve()), reserve(8 * PAGE), *GOOD[1:]],
        [failed(call("mmap", A - 64 * PAGE, 3 * PAGE, 0, RESERVING)), *GOOD],
        [reserve(), failed(overlay(0, 3, 0)), overlay(0, 1, 0), overlay(1, 2, 2)],
        [reserve(), overlay(0, 1, 0), failed(overlay(1, 2, 2)), overlay(1, 1, 2), overlay(2, 1, 3)],
        [reserve(), failed(overlay(-64, 1, 0), flags=FAULTED | OWNED), *GOOD],
        [*GOOD, failed(call("mremap", A - 64 * PAGE, PAGE, PAGE, 3, A))],
    ],
)
def test_another_way_to_the_same_pages_is_excused(events):
    """FAULT_REPORTED: another address, another size, one mapping for neighbours and then one each."""
    assert status("FAULT_REPORTED", success(events)) == "not exercised"


@pytest.mark.parametrize(
    "wrong",
    [
        page(1, memory=ANONYMOUS),
        page(1, READ, offset=2 * PAGE),
        page(1, READ | WRITE | SHARED, offset=2 * PAGE),
        page(1, offset=5 * PAGE),
        page(1, SHARED, ANONYMOUS),
        None,
    ],
)
def test_another_way_to_other_pages_is_not_excused(wrong):
    """FAULT_REPORTED: a copy, a private or writable mapping, other memory, the placeholder, a hole."""
    events = [reserve(), overlay(0, 1, 0), failed(overlay(1, 2, 2)), overlay(2, 1, 3)]
    assert status("FAULT_REPORTED", success(events, runs=runs((1, wrong)), second=None)) == "violated"
    elsewhere = [reserve(), failed(overlay(0, 1, 0)), *GOOD[1:]]
    # What is wrong in another place is not because of this step.
    assert status("FAULT_REPORTED", success(elsewhere, runs=runs((1, wrong)), second=None)) == "not exercised"


def test_a_step_done_again_and_then_undone_is_not_excused():
    """FAULT_REPORTED: what was mapped again does not last; where it does, the wrong pages have another reason."""
    wrong = {"runs": runs((0, page(0, memory=ANONYMOUS))), "second": None}
    again = [reserve(), failed(overlay(0, 1, 0)), overlay(0, 1, 0), overlay(1, 2, 2)]
    copied = call("mmap", A, PAGE, 3, RESERVING | 0x10, -1, result=A, flags=OWNED)
    moved = call("mremap", A + 64 * PAGE, PAGE, PAGE, 3, A, result=A, flags=OWNED)
    assert status("FAULT_REPORTED", success(again, **wrong)) == "not exercised"
    for undone in (copied, moved, munmap(0, 1)):
        assert status("FAULT_REPORTED", success([*again, undone], **wrong)) == "violated"
    assert status("FAULT_REPORTED", success([*again, munmap(1, 1)], **wrong)) == "not exercised"
    reserved_again = [failed(reserve()), *GOOD]
    assert status("FAULT_REPORTED", success(reserved_again, **wrong)) == "not exercised"


def test_pages_that_are_not_there_are_not_excused():
    missing = {"runs": runs((0, page(0, SHARED, ANONYMOUS))), "second": None}
    twice = [reserve(), failed(overlay(0, 1, 0)), failed(overlay(0, 1, 0)), overlay(1, 2, 2)]
    before = [reserve(), overlay(0, 1, 0), failed(overlay(0, 1, 0))]
    for events in (twice, before):
        assert status("FAULT_REPORTED", success(events, **missing)) == "violated"


def test_how_a_buffer_that_must_be_refused_is_mapped_does_not_matter():
    """FAULT_REPORTED: that it is mapped at all is another clause's."""
    events = [reserve(), failed(overlay(0, 1, 0)), overlay(1, 2, 2)]
    assert violated(success(events, second=None), REFUSALS["SIZE_AGREES"]) == {"SIZE_AGREES"}


REGION, INDEX, DEVICE = call("find_region", 0), call("find_index", 0), call("find_device", 0, 0, 1)
INFO, REGION_FD, BLOCK = call("region_info", 0, 0), call("region_fd", 0, 0, result=5), call("find_block", HOST)
FIRST_DEVICE, FIRST_BLOCK = call("find_device", HOST, 0, 3), call("find_device", HOST, 0, 4)


@pytest.mark.parametrize(
    "look_ups",
    [
        *([failed(step), step] for step in (REGION, INDEX, DEVICE, INFO, REGION_FD, BLOCK, FIRST_DEVICE, FIRST_BLOCK)),
        [REGION, failed(INFO)],
        [failed(INFO), REGION],
        [INFO, failed(INFO), REGION],
        [failed(INDEX), REGION],
        [failed(DEVICE), REGION],
        [failed(FIRST_DEVICE), BLOCK, DEVICE],
        [failed(FIRST_BLOCK), BLOCK, DEVICE],
        [failed(BLOCK), FIRST_BLOCK],
        [failed(DEVICE), INDEX, INFO],
        [failed(REGION), DEVICE, INDEX, INFO],
        [REGION, failed(REGION_FD)],
    ],
)
def test_a_look_up_made_again_or_made_up_for_by_others_is_excused(look_ups):
    """FAULT_REPORTED: the VFIORegion's own fields for its information, the device's descriptor for the region's."""
    assert status("FAULT_REPORTED", success([*look_ups, *GOOD])) == "not exercised"


@pytest.mark.parametrize(
    "look_ups",
    [
        [REGION, INFO, failed(INFO)],  # goes on with what the first one gave
        [REGION_FD, failed(REGION_FD)],
        [DEVICE, INDEX, failed(INFO)],
        [call("find_region", 1), failed(INFO)],  # of another region
        [call("region_info", 2, 0), failed(INFO)],
        [DEVICE, INFO, failed(INDEX)],
        [failed(REGION), DEVICE, INDEX],
        [failed(REGION), INDEX, INFO._replace(a1=1)],  # of another device
        [BLOCK, failed(BLOCK)],
        [REGION, DEVICE, failed(call("find_block", HOST + PAGE)), BLOCK],
        [failed(INDEX), failed(INDEX), REGION._replace(result=FAILED)],
        [failed(call("find_device", 5, 0, 1)), REGION],  # of no block
        [failed(call("find_device", 5, 0, 3)), REGION],
        [failed(call("find_region", 5)), DEVICE, INDEX, INFO],
    ],
)
def test_a_look_up_that_nothing_made_up_for_is_not_excused(look_ups):
    assert status("FAULT_REPORTED", success([*look_ups, *GOOD])) == "violated"


def test_a_look_up_made_up_for_by_another_is_judged_by_the_pages():
    """FAULT_REPORTED: who has guessed what the look-up would have told is right only by chance."""
    wrong = {"runs": runs((1, page(1, offset=5 * PAGE))), "second": None}
    assert status("FAULT_REPORTED", success([REGION, failed(REGION_FD), *GOOD], **wrong)) == "violated"
    assert status("FAULT_REPORTED", success([failed(INFO), INFO, *GOOD], **wrong)) == "not exercised"


@pytest.mark.parametrize("step", ["munmap", "mprotect", "dup", "close", "other_call"])
def test_failed_cleanup_needs_no_report(step):
    event = call(step, A, PAGE, result=FAILED, error=errno.EINVAL, flags=FAULTED)
    assert status("FAULT_REPORTED", success([*GOOD, event])) == "not exercised"


def test_failures_outside_the_plan_and_deaths_do_not_exercise_fault_reported():
    assert status("FAULT_REPORTED", success([*GOOD, failed(reserve(), flags=UNPLANNED)])) == "not exercised"
    assert status("FAULT_REPORTED", dead(events=[failed(reserve())])) == "not exercised"


def test_success_after_a_step_that_the_kernel_was_made_to_refuse_violates_fault_reported():
    case = msgspec.structs.replace(VALID, kernel_fault=KernelFault("map_count", 3))
    refused = failed(overlay(1, 2, 2), flags=UNPLANNED | BY_KERNEL)
    missing = success([*GOOD[:2], refused], runs=RUNS[:1], second=None)
    assert status("FAULT_REPORTED", missing, case) == "violated"
    assert status("FAULT_REPORTED", failure([*GOOD[:2], refused, munmap()]), case) == "holds"
    done_again = success([*GOOD[:2], refused, GOOD[2]])
    assert status("FAULT_REPORTED", done_again, case) == "not exercised"


# ---- ERROR_SET ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        (success(error_left=True, message=b"no"), "success"),
        (failure(error_left=False, message=b""), "none: valid"),
        (failure([failed(reserve())], error_left=False, message=b""), "none: reservation"),
        (failure(message=b""), "empty"),
        (failure(message=b" \n"), "empty"),
        (failure(message=b"no\n"), "newline"),
        (failure(message=b"no: Unknown error -22"), "errno: no"),
        (failure(message=b"no: Success"), "errno: no"),
        (dead("abort", signal=6, note="a, b", code=ERROR_SET_TWICE), "twice"),
    ],
)
def test_an_error_that_is_not_set_as_qemu_wants_it_violates_error_set(what, cause):
    assert causes(what, "ERROR_SET") == [cause]


def test_one_error_for_a_failure_and_none_for_success_hold_error_set():
    assert status("ERROR_SET", success()) == status("ERROR_SET", failure()) == "holds"
    assert status("ERROR_SET", failure(message="é\xff".encode("latin-1"))) == "holds"


def test_without_a_place_for_an_error_none_is_missed():
    assert status("ERROR_SET", failure(error_left=False), has_errp=False) == "not exercised"
    assert status("ERROR_SET", failure(error_given=False, error_left=False)) == "not exercised"
    assert status("ERROR_SET", dead("abort", signal=6, note="called abort()")) == "not exercised"


# ---- UNMAP_ON_ERROR ----------------------------------------------------------------------------------------

STRAY = (Run(0, 3 * PAGE, SHARED, OTHER, 0),)


def test_pages_left_by_a_failure_violate_unmap_on_error():
    events = [reserve(), failed(overlay(0, 1, 0))]
    assert status("UNMAP_ON_ERROR", failure(events, strays=STRAY, pages_after=1003)) == "violated"
    assert status("UNMAP_ON_ERROR", failure(events, pages_after=1001)) == "violated"
    assert status("UNMAP_ON_ERROR", failure(events, pages_after=999)) == "violated"
    assert status("UNMAP_ON_ERROR", failure([*events, munmap()])) == "holds"


def test_success_death_and_a_refusal_before_the_first_mmap_do_not_exercise_unmap_on_error():
    assert status("UNMAP_ON_ERROR", success(strays=STRAY)) == "not exercised"
    assert status("UNMAP_ON_ERROR", dead(events=[reserve()])) == "not exercised"
    assert status("UNMAP_ON_ERROR", failure([call("find_block", HOST)])) == "not exercised"


def test_pages_that_no_recorded_call_mapped_violate_unmap_on_error_too():
    assert status("UNMAP_ON_ERROR", failure([call("find_block", HOST)], pages_after=1001)) == "violated"


def test_a_munmap_that_failed_by_plan_or_for_want_of_memory_excuses_what_stays():
    for flags in (OWNED | FAULTED, OWNED | UNPLANNED):
        events = [reserve(), failed(overlay(0, 1, 0)), munmap(flags=flags, error=errno.ENOMEM)]
        assert status("UNMAP_ON_ERROR", failure(events, strays=STRAY, pages_after=1003)) == "holds"


def test_what_no_failing_munmap_was_to_remove_violates_unmap_on_error():
    part = munmap(0, 1, flags=OWNED | FAULTED, error=errno.ENOMEM)
    events = [reserve(), failed(overlay(0, 1, 0)), part]
    verdict = told(failure(events, strays=STRAY, pages_after=1003))
    assert "[A+0x1000, A+0x3000)" in verdict.violations[0].seen
    assert violated(failure(events, strays=(page(0),), pages_after=1001)) == set()
    unseen = failure(events, strays=(page(0),), pages_after=1004)
    assert told(unseen).violations[0].summary == "a failed call leaves the process with +3 pages"


def test_where_more_was_left_than_is_listed_a_failing_munmap_excuses_the_pages():
    pages = tuple(page(2 * i) for i in range(MAX_STRAYS))
    whole = munmap(0, 1000, flags=OWNED | FAULTED, error=errno.ENOMEM)
    events = [reserve(1000 * PAGE), failed(overlay(0, 1, 0)), whole]
    assert violated(failure(events, strays=pages, pages_after=2000)) == set()


def test_what_a_failing_munmap_left_beside_a_mapping_is_excused():
    """A reservation trimmed, without success, before the overlays: its edge stays."""
    edge = munmap(3, 1, flags=OWNED | FAULTED, error=errno.ENOMEM)
    events = [reserve(4 * PAGE), edge, *GOOD[1:]]
    assert violated(success(events, strays=(page(3),), pages_after=1004)) == set()
    assert violated(success([reserve(4 * PAGE), *GOOD[1:]], strays=(page(3),), pages_after=1004)) == {"CONTIGUOUS"}


def test_a_munmap_that_the_subject_asked_for_wrongly_excuses_nothing():
    """EINVAL, by a length of 0 or an address inside a page, is the subject's fault, and not the kernel's."""
    wrong = call("munmap", A + 8, 3 * PAGE, result=FAILED, error=errno.EINVAL, flags=UNPLANNED)
    events = [reserve(), failed(overlay(0, 1, 0)), wrong]
    assert status("UNMAP_ON_ERROR", failure(events, strays=STRAY, pages_after=1003)) == "violated"


def test_the_hole_of_a_late_failure_is_no_page_left_and_no_window():
    late = failed(overlay(1, 2, 2), errno.EINVAL, flags=FAULTED | TOOK_AWAY)
    left = (page(0),)
    kept = failure([reserve(), overlay(0, 1, 0), late], strays=left, pages_after=1001)
    gone = failure([reserve(), overlay(0, 1, 0), late, munmap()])
    assert violated(kept) == {"UNMAP_ON_ERROR"}
    assert violated(gone) == set()
    again = success([reserve(), overlay(0, 1, 0), late, overlay(1, 2, 2)])
    assert violated(again) == set()


# ---- UNCHARGED ---------------------------------------------------------------------------------------------


def test_a_charged_placeholder_that_the_kernel_refuses_gets_an_advice():
    for flags in (RESERVING, RESERVING | 0x4000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
        refused = call("mmap", 0, LARGE.total_size, 0, flags, -1, 0, result=FAILED, error=errno.ENOMEM, flags=UNPLANNED)
        assert violated(failure([refused]), LARGE) == ({"UNCHARGED"} if flags == RESERVING else set())
    assert not clauses()["UNCHARGED"].fails_a_check


def test_a_mapping_of_64_gib_holds_uncharged_and_a_small_one_does_not_exercise_it():
    length = LARGE.total_size
    whole = success(
        [reserve(length), overlay(0, length // PAGE, 0)],
        runs=(Run(0, length, READ | SHARED, 0, 0),),
        pages_after=1000 + length // PAGE,
    )
    assert status("UNCHARGED", whole, LARGE) == "holds"
    assert violated(whole, LARGE) == set()
    assert status("UNCHARGED", success()) == "not exercised"


# ---- CONFINED ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        overlay(3, 1, 0, flags=OUTSIDE | REFUSED),
        overlay(3, 1, 0, flags=OUTSIDE),
        munmap(3, 1, flags=OUTSIDE | REFUSED),
        call("mprotect", HOST, PAGE, 1, flags=OUTSIDE | REFUSED),
        call("mremap", HOST, PAGE, PAGE, 0, result=FAILED, error=errno.EFAULT, flags=OUTSIDE | REFUSED),
        call("other_call", HOST, PAGE, 4, flags=OUTSIDE | REFUSED),
    ],
)
def test_a_call_outside_the_reservation_violates_confined(event):
    assert status("CONFINED", success([*GOOD, event])) == "violated"
    assert status("CONFINED", failure([reserve(), munmap(), event])) == "violated"
    assert status("CONFINED", dead(events=[reserve(), event])) == "violated"


def test_calls_inside_the_reservation_hold_confined_and_look_ups_do_not_exercise_it():
    assert status("CONFINED", success([*GOOD, munmap(0, 1)])) == "holds"
    assert status("CONFINED", failure([call("find_block", HOST), call("dup", 5), call("close", 6)])) == "not exercised"


def test_map_fixed_noreplace_touches_nothing():
    probing = call("mmap", A, PAGE, 0, RESERVING | NOREPLACE, -1, 0, result=FAILED, error=17, flags=OUTSIDE | UNPLANNED)
    found = call("mmap", A, PAGE, 0, RESERVING | NOREPLACE, -1, 0, result=A, flags=OUTSIDE)
    assert status("CONFINED", success([probing, found, *GOOD])) == "holds"


def test_a_closed_descriptor_is_no_matter_of_confined():
    assert status("CONFINED", success([*GOOD, call("close", 5, flags=OUTSIDE | REFUSED)])) == "holds"


# ---- NO_WINDOW ---------------------------------------------------------------------------------------------


def test_mapping_again_what_was_freed_violates_no_window():
    probed = [reserve(), munmap(), overlay(0, 1, 0, flags=OUTSIDE), overlay(1, 2, 2, flags=OUTSIDE)]
    one_page = [reserve(), munmap(1, 2), overlay(1, 2, 2, flags=OUTSIDE), overlay(0, 1, 0)]
    hinted = [reserve(), munmap(), call("mmap", A, 3 * PAGE, 0, RESERVING, -1, 0, result=A)]
    for events in (probed, one_page, hinted):
        assert status("NO_WINDOW", success(events)) == "violated"


def test_moving_a_mapping_away_and_mapping_there_again_violates_no_window():
    moved = call("mremap", A, PAGE, PAGE, 3, A + 16 * PAGE, result=A + 16 * PAGE, flags=OWNED)
    assert status("NO_WINDOW", success([reserve(), moved, overlay(0, 1, 0)])) == "violated"


def test_a_page_freed_and_returned_as_a_hole_violates_no_window():
    what = success([*GOOD, munmap(1, 1)], runs=runs((1, None)))
    assert status("NO_WINDOW", what) == "violated"


def test_trimming_a_reservation_before_the_overlays_is_no_window():
    """Who reserves more, to align it, frees what is not needed: it is not in the range that is returned."""
    trimmed = [reserve(5 * PAGE, A - PAGE), munmap(-1, 1), munmap(3, 1), *GOOD[1:]]
    assert violated(success(trimmed)) == set()


def test_another_reservation_that_the_kernel_puts_in_the_same_place_is_no_window():
    again = [reserve(), munmap(), reserve(), *GOOD[1:]]
    assert status("NO_WINDOW", success(again)) == "holds"


def test_a_munmap_that_was_not_carried_out_frees_nothing():
    """It is CONFINED that it violates."""
    refused = success([reserve(), munmap(0, 9, flags=OUTSIDE | REFUSED), *GOOD[1:]])
    assert violated(refused) == {"CONFINED"}


def test_what_was_not_freed_and_who_never_mapped_make_no_window():
    kept = [reserve(), munmap(error=errno.ENOMEM, flags=FAULTED | OWNED), *GOOD[1:]]
    assert status("NO_WINDOW", success(kept)) == "holds"
    assert status("NO_WINDOW", success()) == "holds"
    assert status("NO_WINDOW", failure([munmap(flags=OUTSIDE | REFUSED)])) == "not exercised"
    assert status("NO_WINDOW", dead(events=[reserve(), munmap(), overlay(0, 1, 0)])) == "not exercised"


# ---- NO_LEAK, REPEATABLE, SURVIVES -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        (success(fds_left=1), "descriptor: success"),
        (failure(fds_left=2), "descriptor: no"),
        (failure(fds_gone=1), "gone"),
        (failure(heap_live=1, heap_live_bytes=16), "heap: no"),
        (success(cached_frees=1), "cache"),
        (failure(references_kept=1), "reference kept"),
        (success(references_dropped=2), "reference dropped"),
        (success(read_locks=1), "read lock"),
        (success(left=1), "thread"),
        (failure(left=2), "child"),
        (success(left=4), "timer"),
        (success([*GOOD, call("close", 5, flags=OUTSIDE | REFUSED)]), "close"),
        (success([*GOOD, call("dup", 9, 5, flags=OUTSIDE | REFUSED, result=5)]), "close"),
        (
            success([*GOOD, call("close", 9, result=FAILED, error=errno.EBADF, flags=OUTSIDE | UNPLANNED)]),
            "twice",
        ),
    ],
)
def test_what_stays_behind_or_was_not_the_subjects_violates_no_leak(what, cause):
    assert causes(what, "NO_LEAK") == [cause]


def test_two_kinds_of_leak_are_two_violations():
    what = success(fds_left=1, heap_live=2)
    assert {v.cause for v in told(what).violations} == {"descriptor: success", "heap: success"}


def test_a_descriptor_of_ones_own_may_be_closed():
    assert status("NO_LEAK", success([call("dup", 5, result=9), *GOOD, call("close", 9)])) == "holds"
    assert status("NO_LEAK", dead()) == "not exercised"


@pytest.mark.parametrize(
    "change",
    [
        *({"mapped": False}, {"like_first": False}, {"differences": 1}, {"first_whole": False}),
        *({"first_differences": 3}, {"left_open": True}),
    ],
)
def test_two_mappings_that_are_not_independent_violate_repeatable(change):
    assert status("REPEATABLE", success(second=msgspec.structs.replace(WHOLE, **change))) == "violated"


def test_descriptors_that_each_call_leaves_open_are_no_matter_of_the_second():
    what = success(fds_left=1, second=msgspec.structs.replace(WHOLE, left_open=True))
    assert violated(what) == {"NO_LEAK"}


def test_a_second_call_that_the_kernel_refused_memory_does_not_exercise_repeatable():
    starved = msgspec.structs.replace(WHOLE, mapped=False, like_first=False, starved=True)
    assert status("REPEATABLE", success(second=starved)) == "not exercised"
    damaged = msgspec.structs.replace(starved, first_whole=False)
    assert status("REPEATABLE", success(second=damaged)) == "violated"


def blamed(what: Observation) -> list[tuple[int, str, str]]:
    verdict = judge_sequence(SEQUENCE, "same-block", what)
    return [(one.step, one.violation.clause, one.violation.cause) for one in verdict.blamed]


def test_mappings_as_they_must_be_after_each_step_hold_repeatable():
    verdict = judge_sequence(SEQUENCE, "same-block", steps())
    assert not verdict.blamed
    assert "REPEATABLE" in verdict.checked
    alone = msgspec.structs.replace(steps(), steps=steps().steps[:1])
    assert "REPEATABLE" not in judge_sequence(SEQUENCE, "same-block", alone).checked


CHANGED = Difference(1, 0, 0, 1 << 60 | 4, 1 << 60)


@pytest.mark.parametrize(
    ("name", "seen_then", "cause"),
    [
        ("s1", step(MappingSeen(0, A, RUNS[:1]), MappingSeen(1, B, RUNS), pages=1004, call=success(GOOD)), "gone"),
        ("s1", step(MappingSeen(0, A, ()), MappingSeen(1, B, RUNS), pages=1003, call=success(GOOD)), "gone"),
        ("s1", step(MappingSeen(1, B, RUNS), pages=1003, call=success(GOOD)), "gone"),
        (
            "s1",
            step(MappingSeen(0, A, (RUNS[0], RUNS[1]._replace(offset=0))), MappingSeen(1, B, RUNS), pages=1006),
            "replaced",
        ),
        (
            "s4",
            step(MappingSeen(0, A, (RUNS[0]._replace(flags=SHARED), RUNS[1])), pages=1003),
            "replaced",
        ),
        ("s1", step(MappingSeen(0, A, RUNS), MappingSeen(1, A + PAGE, RUNS), pages=1004), "overlap"),
        ("s2", step(MappingSeen(0, A, RUNS, (CHANGED,)), MappingSeen(1, B, RUNS), pages=1006), "contents"),
        ("s3", step(MappingSeen(0, A, RUNS), pages=1003, left=1), "not gone"),
        ("s3", step(MappingSeen(0, A, RUNS), pages=1005), "pages"),
        ("s4", step(MappingSeen(0, A, RUNS), pages=1003, child=0), "fork"),
    ],
)
def test_a_mapping_that_changes_in_a_later_step_violates_repeatable(name: str, seen_then: StepSeen, cause: str):
    number = int(name[1:])
    if number == 1:
        seen_then = msgspec.structs.replace(seen_then, call=success(GOOD, second=None))
    assert blamed(steps(**{name: seen_then})) == [(number, "REPEATABLE", cause)]


def test_pages_that_the_kernel_cuts_up_otherwise_are_the_same_pages():
    halves = (RUNS[0], page(1, offset=2 * PAGE), page(2, offset=3 * PAGE))
    assert blamed(steps(s4=step(MappingSeen(0, A, halves), pages=1003))) == []


def test_a_mapping_that_grows_is_told_with_what_was_there_before():
    grown = step(MappingSeen(0, A, (*RUNS, page(3))), pages=1003)
    (blame,) = judge_sequence(SEQUENCE, "same-block", steps(s4=grown)).blamed
    assert blame.violation.expected == "at M0+0x3000: nothing"
    assert blame.violation.cause == "replaced"


def test_a_call_of_a_sequence_that_ends_the_process_is_the_last_one_judged():
    crashed = dead(signal=11)
    what = steps(s1=step(MappingSeen(0, A, RUNS), pages=1003, call=crashed))
    assert [(at, clause) for at, clause, _ in blamed(what)] == [(1, "SURVIVES")]


def test_a_violation_of_a_step_has_the_call_and_the_whole_case():
    leak = step(MappingSeen(0, A, RUNS), MappingSeen(1, B, RUNS), pages=1006, call=success(second=None, heap_live=1))
    (blame,) = judge_sequence(SEQUENCE, "same-block", steps(s1=leak)).blamed
    assert (blame.violation.case, blame.call, blame.damage) == (SEQUENCE, VALID, False)
    gone = step(MappingSeen(0, A, RUNS), pages=1005)
    (blame,) = judge_sequence(SEQUENCE, "same-block", steps(s3=gone)).blamed
    assert (blame.violation.case, blame.call, blame.damage) == (SEQUENCE, None, True)


def test_mappings_of_others_that_changed_are_told_with_the_first_call():
    """They are compared once, after all steps."""
    assert blamed(msgspec.structs.replace(steps(), harness_changes=1)) == [(0, "CONFINED", "unseen")]


def test_each_step_has_words():
    actions = (AGAIN, Change(0, 0), End(1), Fork(), Drop(1), AGAIN)
    case = msgspec.structs.replace(VALID, sequence=actions)
    words = [step_text(case, number) for number in range(1, 1 + len(actions))]
    assert words == ["call 1", "the device changes block 0", "end of mapping 1", "fork", "block 1 goes", "call 2"]


def test_a_fork_that_was_refused_is_no_violation():
    refused = step(MappingSeen(0, A, RUNS), pages=1003, done=False, errno=errno.EAGAIN)
    assert blamed(steps(s4=refused)) == []


def test_a_mapping_that_was_wrong_from_the_start_is_judged_once():
    wrong = success(GOOD, second=None, runs=RUNS[:1])
    torn = MappingSeen(1, B, RUNS[:1])
    first = MappingSeen(0, A, RUNS)
    what = steps(
        s1=step(first, torn, pages=1004, call=wrong),
        s2=step(first, torn, pages=1004),
        s3=step(first, pages=1003),
    )
    assert {clause for _, clause, _ in blamed(what)} == {"CONTIGUOUS"}


def test_without_a_second_call_repeatable_is_not_exercised():
    assert status("REPEATABLE", success()) == "holds"
    assert status("REPEATABLE", success(second=None)) == "not exercised"


@pytest.mark.parametrize(
    "what",
    [
        dead(signal=11, note="at NULL + 0x0"),
        dead("hang", note="2 seconds"),
        dead("abort", signal=6, note="called abort()"),
        dead("exit", status=3),
        dead(events=[failed(reserve())], signal=11),
        dead(signal=35),  # a real-time signal, which has no name of its own
        failure(bad_frees=1),
    ],
)
def test_every_end_but_a_return_violates_survives(what):
    assert status("SURVIVES", what) == "violated"


def test_mappings_of_others_that_changed_violate_confined():
    assert [v.cause for v in told(success(harness_changes=2)).violations if v.clause == "CONFINED"] == ["unseen"]


def test_a_return_holds_survives():
    assert status("SURVIVES", success()) == status("SURVIVES", failure()) == "holds"


def test_deaths_in_different_places_are_different_causes():
    deaths = [
        dead(signal=11),
        dead(signal=7),
        dead("hang", note="2 seconds"),
        dead(events=[reserve()], signal=11),
        dead(events=[call("find_block", HOST)], signal=11),
        dead(signal=11, frames=(0x1200, 0x1300)),
        dead(signal=11, frames=(0x1234, 0x1300)),
    ]
    causes = [v.cause for what in deaths for v in told(what).violations if v.clause == "SURVIVES"]
    assert len(set(causes)) == len(deaths)
    one, other = (
        dead(events=[reserve()], signal=11, frames=(16,)),
        dead(events=[failed(reserve())], signal=11, frames=(16,)),
    )
    assert told(one).violations[0].cause == told(other).violations[0].cause
    near, far = dead(signal=11, note="at NULL + 0x0"), dead(signal=11, note="elsewhere")
    assert told(near).violations[0].cause == told(far).violations[0].cause


def test_a_stack_that_ends_in_another_instruction_of_a_recursion_is_the_same_cause():
    """Where its last level stops is by chance; which functions call themselves is not."""
    depth = 20
    causes = {
        told(dead(signal=11, frames=(*innermost, *levels))).violations[0].cause
        for innermost in ((0x1200,), (0x1234,), (0x2000, 0x1210))
        for levels in ((0x1300,) * depth, (0x1300, 0x1340) * (depth // 2), (0x1340, 0x1300) * (depth // 2))
    }
    assert causes == {"signal 11 in the recursion @1300"}
    assert "recursion" not in told(dead(signal=11, frames=(0x1200, *range(0x1300, 0x1300 + depth)))).violations[0].cause
    assert "recursion" not in told(dead(signal=11, frames=(0x1300,) * 3)).violations[0].cause


def test_judging_changes_neither_the_case_nor_the_observation():
    what = success([*GOOD, munmap(3, 1, flags=OUTSIDE | REFUSED)])
    before = msgspec.json.encode(VALID), msgspec.msgpack.encode(what)
    assert told(what) == told(what)
    assert (msgspec.json.encode(VALID), msgspec.msgpack.encode(what)) == before
