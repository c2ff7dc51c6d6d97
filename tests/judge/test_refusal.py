"""What is judged at a glance is judged as each clause's own judge does it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import VALID, call, failed, munmap, overlay, reserve, seen, success
from msgspec.structs import replace

from vfio_verify.judge import judge, judge_each
from vfio_verify.judge.refusal import exercised_by_clean_refusal
from vfio_verify.values.case import PAGE, Case, Fault
from vfio_verify.values.model import expect
from vfio_verify.values.observation import ANONYMOUS, FAULTED, STEPS, Death, Observation, Run

CASES = (VALID, replace(VALID, total_size=PAGE), replace(VALID, iovec=(), total_size=0))
EVENTS = (
    *(reserve(), failed(reserve()), overlay(0, 1, 0), failed(overlay(1, 2, 2)), munmap(), munmap(0, 1)),
    *(
        failed(munmap()),
        munmap(flags=8 | 4),
        failed(call("region_info", 0, 0)),
        call("find_block", 0),
        call("close", 5),
    ),
    *(failed(call("close", 5)), call("mremap", 1 << 40, PAGE, PAGE), call("mprotect", 1 << 40, PAGE)),
)
PLANS = (
    *((), (Fault("mmap", 1),), (Fault("munmap", 1),), (Fault("mmap", 2), Fault("munmap", 1))),
    *((Fault("close", 1),), (Fault("close", 1), Fault("region_info", 1))),
)
REMAINS = (
    *({}, {}, {}, {"pages_after": 1}, {"fds_left": 1}, {"heap_live": 2}, {"left": 1}, {"references_kept": 1}),
    *({"strays": (Run(0, PAGE, 0, ANONYMOUS, 0),)}, {"harness_changes": 1}, {"death": Death("signal", 11)}),
    *({"bad_frees": 1}, {"mapped": True}, {"read_locks": 1}, {"cached_frees": 1}, {"fds_gone": 1}),
    *({"references_dropped": 1}, {"events_dropped": 1}),
)
MESSAGES = (
    b"cannot map: Cannot allocate memory",
    b"no\n",
    b"",
    b" ",
    b"failed: Unknown error -12",
    b"x: Success",
    b"\xff",
)


FORGED = (
    *({}, {}, {}, {"flags_union": 0}, {"flags_union": FAULTED}, {"counts": tuple(range(len(STEPS)))}),
    *({"counts": (1,) * len(STEPS)}, {"counts": (0,) * len(STEPS)}, {"events": b""}),
)
"""What a subject that writes over a reply may leave: sums that are not those of the trace."""


@st.composite
def refusals(draw: st.DrawFn) -> tuple[Case, Observation, bool]:
    events = draw(st.lists(st.sampled_from(EVENTS), max_size=6))
    given_error = draw(st.booleans())
    fields = {
        "mapped": False,
        "error_given": given_error,
        "error_left": given_error and draw(st.integers(0, 3)) > 0,
        "message": draw(st.sampled_from(MESSAGES)),
        **draw(st.sampled_from(REMAINS)),
    }
    case = draw(st.sampled_from(CASES)).with_faults(*draw(st.sampled_from(PLANS)))
    observed = replace(seen(events, **fields), **draw(st.sampled_from(FORGED)))
    return case, observed, draw(st.booleans())


@given(refusals())
def test_a_glance_says_what_the_judges_of_all_clauses_say(run: tuple[Case, Observation, bool]) -> None:
    case, observed, has_errp = run
    expected = expect(case)
    assert judge(case, expected, observed, has_errp=has_errp) == judge_each(case, expected, observed, has_errp=has_errp)


@pytest.mark.parametrize("remains", [fields for fields in REMAINS if fields])
def test_a_glance_does_not_pass_what_something_remains_of(remains: dict[str, object]) -> None:
    case = VALID.with_faults(Fault("mmap", 2))
    clean = {"mapped": False, "error_given": True, "error_left": True, "message": MESSAGES[0]}
    events = [reserve(), failed(overlay(0, 1, 0)), munmap()]
    expected = expect(case)
    assert exercised_by_clean_refusal(expected, seen(events, **clean), has_errp=True) == {
        *("SURVIVES", "NO_LEAK", "ERROR_SET", "FAULT_REPORTED", "UNMAP_ON_ERROR", "CONFINED", "NO_WINDOW"),
    }
    dirty = seen(events, **{**clean, **remains})
    assert exercised_by_clean_refusal(expected, dirty, has_errp=True) is None


def test_a_mapping_is_not_judged_at_a_glance() -> None:
    assert exercised_by_clean_refusal(expect(VALID), success(), has_errp=True) is None
