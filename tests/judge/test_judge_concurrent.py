"""The judge of several concurrent calls, by observations made by hand."""

from __future__ import annotations

import errno

import pytest
from made_runs import (
    CONCURRENT,
    FAR,
    GOOD,
    TWO,
    A,
    at_once,
    dead,
    failed,
    failure,
    mapped,
    munmap,
    overlay,
    reserve,
    success,
)
from msgspec.structs import replace

from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.values.case import PAGE
from vfio_verify.values.observation import BY_KERNEL, TOOK_AWAY, Death, Observation, Taken


def found(seen: Observation) -> list[tuple[str, str]]:
    return [(v.clause, v.cause) for v in judge_concurrent(CONCURRENT, "same-block", seen).violations]


def checked(seen: Observation) -> frozenset[str]:
    return judge_concurrent(CONCURRENT, "same-block", seen).checked


def test_calls_that_end_as_they_do_alone_violate_nothing() -> None:
    assert found(at_once()) == []
    assert checked(at_once()) == {"REPEATABLE", "NO_WINDOW", "SURVIVES"}


def test_an_end_in_the_rounds_with_one_thread_is_no_matter_of_threads() -> None:
    death = Death("signal", signal=11)
    for rounds in (1, 2):
        assert found(at_once(death, rounds=rounds)) == []
        assert checked(at_once(death, rounds=rounds)) == frozenset()
    (violation,) = judge_concurrent(CONCURRENT, "same-block", at_once(death, rounds=3, dead=1)).violations
    assert violation.clause == "SURVIVES"
    assert violation.summary == "with 2 concurrent calls: SIGSEGV, in thread 2"


def test_before_the_first_round_of_several_threads_nothing_is_said() -> None:
    assert checked(at_once(rounds=2)) == frozenset()


TAKEN = Taken(thread=1, start=FAR, end=FAR + 3 * PAGE, at=FAR + PAGE, length=PAGE, order=4)


def test_what_another_thread_sees_free_or_gets_violates_no_window() -> None:
    assert found(at_once(hole=TAKEN)) == [("NO_WINDOW", "at once: window")]
    (violation,) = judge_concurrent(CONCURRENT, "same-block", at_once(grab=TAKEN)).violations
    assert (violation.clause, violation.cause) == ("NO_WINDOW", "at once: window")
    assert violation.seen == "0x1000 bytes at A2+0x1000, A2 being what thread 2 reserved"


def test_memory_of_another_thread_that_is_overwritten_violates_confined() -> None:
    assert [clause for clause, _ in found(at_once(clobbered=3))] == ["CONFINED"]


def test_where_a_driver_takes_away_what_it_covers_nothing_is_said_of_windows() -> None:
    torn = failed(overlay(0, 1, 0), errno.ENOMEM, flags=BY_KERNEL | TOOK_AWAY)
    assert found(at_once(hole=TAKEN, clobbered=1, steps=((4, 1, torn),))) == []


REFUSED_CALL = failure([reserve(), failed(overlay(0, 1, 0), errno.EBUSY, flags=BY_KERNEL), munmap()])


def test_a_call_that_ends_otherwise_than_alone_violates_repeatable() -> None:
    assert found(at_once(round=3, calls=(TWO[0], mapped(A)))) == [("REPEATABLE", "at once: disturbed")]
    summary = (
        judge_concurrent(CONCURRENT, "same-block", at_once(round=3, calls=(TWO[0], mapped(A)))).violations[0].summary
    )
    assert (
        summary == "calls from several threads at once disturb each other: threads 1 and 2 are given the same addresses"
    )


def test_what_is_wrong_with_one_thread_too_is_not_told_again() -> None:
    wrong = replace(TWO[1], error_given=True, message=b"x", error_left=True)
    assert found(at_once(round=3, calls=(TWO[0], wrong)))
    assert found(at_once(round=3, calls=(TWO[0], wrong), control=(TWO[0], replace(wrong, message=b"y")))) == []


def test_a_window_or_a_driver_that_takes_away_in_the_control_excuses_what_differs() -> None:
    torn = failure([reserve(), failed(overlay(0, 1, 0), errno.ENOMEM, flags=BY_KERNEL | TOOK_AWAY), munmap()])
    assert found(at_once(round=3, calls=(TWO[0], mapped(A)), control=(TWO[0], torn))) == []
    window = success([*GOOD[:1], munmap(), *GOOD[1:]], second=None)
    assert found(at_once(round=3, calls=(TWO[0], mapped(A)), control=(TWO[0], window))) == []


@pytest.mark.parametrize("how", ["hang", "exit"])
def test_the_way_in_which_a_process_ends_is_the_cause(how: str) -> None:
    (violation,) = judge_concurrent(CONCURRENT, "same-block", at_once(dead(how).death, dead=None)).violations
    assert violation.cause.startswith(f"at once: {how}")
    assert "in thread" not in violation.summary
