"""Where in the subject's code a violation is, by traces made by hand whose steps have their places."""

from __future__ import annotations

import errno

import pytest
from made_reports import violation
from made_runs import GOOD, RESERVING, VALID, A, at_once, call, dead, failed, failure, munmap, overlay, reserve, success
from msgspec.structs import replace

from vfio_verify.judge.places import places_of
from vfio_verify.values.observation import (
    BY_KERNEL,
    FAULTED,
    NOWHERE,
    OUTSIDE,
    UNPLANNED,
    Difference,
    Event,
    Observation,
)


def placed(*events: Event) -> list[Event]:
    """The first event from place 1, the second from place 2, and so on."""
    return [event._replace(caller=number) for number, event in enumerate(events, 1)]


def places(clause: str, seen: Observation, cause: str = "", **fields: object) -> list[int]:
    return list(places_of(replace(violation(clause, cause=cause), case=VALID, observation=seen, **fields)))


def test_where_the_judge_has_said_it_comes_first_and_each_place_once() -> None:
    what = success(placed(*GOOD), error_at=(7, NOWHERE, 8))
    assert places("ACCEPTS_VALID", what, where=9) == [9, 8, 7, 3, 2, 1]
    assert places("ACCEPTS_VALID", what, where=2) == [2, 8, 7, 3, 1]


def test_a_death_is_where_its_frames_are() -> None:
    what = dead(events=placed(*GOOD), frames=(17, 16))
    assert places("SURVIVES", what)[:3] == [17, 16, 3]
    assert places("CONFINED", what)[:2] == [17, 16]


def test_a_bad_free_is_where_it_was_freed() -> None:
    assert places("SURVIVES", failure(placed(*GOOD), free_at=30))[0] == 30


def test_wrong_pages_are_where_their_overlay_was_made() -> None:
    what = success(placed(reserve(), overlay(0, 1, 0), overlay(1, 1, 2), overlay(2, 1, 3)))
    for page, place in enumerate((2, 3, 4)):
        assert places("CONTENTS", what, position=page * 4096)[0] == place
        assert places("CONTENTS", what, position=page * 4096 + 4095)[0] == place
    assert places("CONTIGUOUS", what)[:4] == [4, 3, 2, 1]
    # Over the overlay of a page a later one was made.
    again = success(placed(reserve(), overlay(0, 1, 0), overlay(0, 1, 0), failed(overlay(0, 1, 0)), overlay(1, 2, 2)))
    assert places("READ_ONLY", again, position=0)[0] == 3


def test_a_wrong_word_is_where_the_overlay_of_its_segment_was_made() -> None:
    events = placed(*GOOD)
    assert places("CONTENTS", success(events, differences=(Difference(1, 1, 4096, 1, 2),)))[0] == 3
    assert places("CONTENTS", success(events, differences=(Difference(1, 0, 8, 1, 2),)))[0] == 2


def test_without_overlays_the_reservation_is_told() -> None:
    lone = placed(call("find_block", 0), reserve(), call("close", 5))
    assert places("SAME_BLOCK", success(lone))[0] == 2
    moved = placed(reserve(), call("mremap", A, 4096, 4096), call("close", 5))
    assert places("SAME_BLOCK", success(moved))[0] == 2


def test_a_step_astray_is_where_it_was_taken() -> None:
    astray = [call("close", 5, flags=OUTSIDE), munmap(3, 1, flags=OUTSIDE), munmap(4, 1, flags=OUTSIDE)]
    assert places("CONFINED", success(placed(*GOOD, *astray)))[0] == 5


def test_a_window_is_where_the_range_was_freed() -> None:
    kept = munmap(error=errno.ENOMEM)
    assert places("NO_WINDOW", success(placed(reserve(), munmap(flags=0), kept, munmap(), *GOOD[1:])))[0] == 4


def test_a_leak_is_where_its_thing_was_taken() -> None:
    opened = [call("dup", 5, result=9), call("dup", 5, result=10), failed(call("dup", 5)), call("close", 10)]
    what = failure(placed(*opened), heap_live=1, heap_at=20, free_at=21, reference_at=22)
    assert places("NO_LEAK", what, "heap: no")[0] == 20
    assert places("NO_LEAK", replace(what, heap_live=0), "heap: no")[0] != 20
    assert places("NO_LEAK", what, "cache")[0] == 21
    assert places("NO_LEAK", what, "reference kept")[0] == places("NO_LEAK", what, "reference dropped")[0] == 22
    assert places("NO_LEAK", what, "descriptor: no")[0] == 1
    closed = success(placed(*GOOD, munmap(3, 1, flags=OUTSIDE), call("close", 5, flags=OUTSIDE)))
    assert places("NO_LEAK", closed, "close")[0] == places("NO_LEAK", closed, "twice")[0] == 5


def test_a_charged_placeholder_is_where_it_was_refused_or_made() -> None:
    refused = failed(call("mmap", 0, 4096, 0, RESERVING), flags=UNPLANNED)
    assert places("UNCHARGED", failure(placed(munmap(flags=UNPLANNED), reserve(), refused)))[0] == 3
    assert places("UNCHARGED", failure(placed(munmap(), overlay(0, 1, 0), reserve())))[0] == 3


@pytest.mark.parametrize("flag", [FAULTED, BY_KERNEL])
def test_a_failure_ignored_is_where_the_first_step_failed_and_any_other_where_the_last_did(flag: int) -> None:
    two = [failed(overlay(0, 1, 0), flags=flag), failed(overlay(1, 2, 2), flags=flag)]
    what = success(placed(reserve(), *two, munmap()))
    assert places("FAULT_REPORTED", what)[0] == 2
    assert places("ERROR_SET", what)[:2] == [3, 2]


def test_of_concurrent_calls_all_steps_count() -> None:
    steps = tuple((order, 0, event) for order, event in enumerate(placed(*GOOD, munmap(3, 1, flags=OUTSIDE))))
    assert places("CONFINED", at_once(steps=steps))[0] == 4
