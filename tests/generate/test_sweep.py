"""Which faults a layout is run under: every position, once and for good, early and late; every errno; pairs."""

from __future__ import annotations

import errno

from vfio_verify.generate.sweep import MMAP_ERRNOS, OTHER_ERRNOS, fault_plans, pair_plans, positions
from vfio_verify.values.case import Fault
from vfio_verify.values.observation import EVENT, FAULTED, STEPS, Death, Event, Observation

NAMES = set(errno.errorcode.values())
SHORT = ("find_block", "region_info", "mmap", "mmap")
LONG = ("find_block", *("mmap",) * 16, "dup", "close", "close")
"""The steps of two faultless runs."""


def ran(steps: tuple[str, ...], failed: int | None = None, **fields: object) -> Observation:
    """A run that took these steps, of which the fault plan failed one."""
    events = [
        Event(STEPS.index(step), FAULTED if i == failed else 0, *(0,) * 6, 0, 5 if i == failed else 0)
        for i, step in enumerate(steps)
    ]
    return Observation(
        mapped=failed is None,
        events=b"".join(EVENT.pack(*event) for event in events),
        counts=tuple(steps.count(step) for step in STEPS),
        flags_union=0 if failed is None else FAULTED,
        **fields,
    )


def singles(steps: tuple[str, ...], turn: int) -> list[Fault]:
    plans = fault_plans(ran(steps), turn)
    assert all(len(plan) == 1 for plan in plans)
    return [fault for (fault,) in plans]


def test_every_step_fails_once_and_for_good_and_mappings_early_and_late():
    faults = singles(LONG, 1)
    for nth in range(1, 17):
        kinds = {(f.when, f.persistent) for f in faults if (f.step, f.nth) == ("mmap", nth)}
        assert kinds == {("early", False), ("early", True), ("late", False), ("late", True)}
    assert {(f.nth, f.persistent) for f in faults if f.step == "close"} == {(1, False), (1, True), (2, False)}
    assert {(f.nth, f.persistent) for f in faults if f.step == "find_block"} == {(1, False)}


def test_over_some_layouts_every_position_meets_every_errno():
    for step, errnos in {**OTHER_ERRNOS, "mmap": MMAP_ERRNOS}.items():
        steps = (step,) * 5
        for nth in (1, 3, 5):
            met = {f.errno for turn in range(1, 15) for f in singles(steps, turn) if f.nth == nth}
            assert met == set(errnos), step
    late = {f.errno for turn in range(1, 15) for f in singles(LONG, turn) if f.nth == 9 and f.when == "late"}
    assert late == set(MMAP_ERRNOS)


def test_some_short_layouts_meet_every_errno_at_every_position_by_themselves():
    met = {(f.nth, f.errno, f.when, f.persistent) for f in singles(SHORT, 8) if f.step == "mmap"}
    assert met == {
        (nth, name, when, persistent)
        for nth in (1, 2)
        for name in MMAP_ERRNOS
        for when in ("early", "late")
        for persistent in (False, True)
    }
    assert {f.errno for f in singles(SHORT, 8) if f.step == "region_info"} == set(OTHER_ERRNOS["region_info"])
    assert len(singles(LONG, 8)) == len(singles(LONG, 1))


def test_of_many_steps_the_first_the_last_and_some_between_fail_and_all_over_some_layouts():
    for count in (17, 64, 65, 100, 301, 1024):
        taken = [positions(count, turn) for turn in range(200)]
        for part in taken:
            first_and_last = {1, 2, 3, 4, count // 2, *range(count - 3, count + 1)}
            assert first_and_last <= set(part) <= set(range(1, count + 1))
            assert {near for near in (15, 16, 17, 31, 32, 33, 255, 256, 257) if near <= count} <= set(part)
            assert sorted(set(part)) == list(part)
            assert len(part) <= 45
        assert set().union(*taken) == set(range(1, count + 1))
    assert list(positions(16, 3)) == list(range(1, 17))


def test_in_a_long_list_a_position_between_fails_in_each_way_over_some_layouts():
    steps = ("mmap",) * 300
    for nth in (1, 2, 299, 300):
        assert len([fault for fault in singles(steps, 1) if fault.nth == nth]) == 4
    met = {(f.when, f.persistent) for turn in range(1, 5) for f in singles(steps, turn) if f.nth == 256}
    assert met == {("early", False), ("early", True), ("late", False), ("late", True)}
    assert len([fault for fault in singles(steps, 1) if fault.nth == 256]) == 1


def test_of_thousands_of_steps_few_fail():
    """Each run of them takes a second."""
    plans = fault_plans(ran(("find_block", "munmap") + ("mmap",) * 2000))
    assert plans == [
        (Fault("mmap", 1000, MMAP_ERRNOS[3000 % len(MMAP_ERRNOS)], "late"),),
        (Fault("mmap", 2000, MMAP_ERRNOS[2000 % len(MMAP_ERRNOS)]),),
        (Fault("munmap", 1, "EINVAL"),),
        (Fault("find_block", 1),),
    ]
    assert not pair_plans(plans, [ran(("mmap",) * 2049, failed=1000)] * len(plans))
    longest = fault_plans(ran(("find_block",) * 5_000 + ("mmap",) * 5_000))
    assert longest == [(Fault("mmap", 5_000, MMAP_ERRNOS[5_000 % len(MMAP_ERRNOS)]),)]


def test_every_errno_is_one_and_no_plan_comes_twice():
    for turn in range(16):
        for steps in (SHORT, LONG):
            faults = singles(steps, turn)
            assert {fault.errno for fault in faults} <= NAMES
            assert len(set(faults)) == len(faults)


def test_a_run_without_steps_has_no_plans():
    assert fault_plans(Observation(mapped=False)) == []
    assert fault_plans(ran(())) == []


FAILED_OVERLAY = (*("find_block", "mmap", "mmap"), "munmap", "munmap", "close")


def test_after_a_failure_each_step_of_the_cleanup_fails_too():
    first = (Fault("mmap", 2, "ENOMEM"),)
    pairs = pair_plans([first], [ran(FAILED_OVERLAY, failed=2)])
    assert [(pair[0], pair[1].step, pair[1].nth) for pair in pairs] == [
        (*first, "munmap", 1),
        (*first, "munmap", 2),
        (*first, "close", 1),
    ]
    lasting = pair_plans([first], [ran(FAILED_OVERLAY, failed=2)], turn=1)
    assert [pair[1].persistent for pair in lasting] == [True, True, False]


def test_a_fault_that_lasts_that_ended_the_process_or_never_came_has_no_second():
    lasting, once = (Fault("mmap", 2, persistent=True),), (Fault("mmap", 2),)
    met = ran(FAILED_OVERLAY, failed=2)
    dead = ran(FAILED_OVERLAY, failed=2, death=Death("signal", 11))
    assert pair_plans([lasting, once, once], [met, dead, ran(FAILED_OVERLAY)]) == []
    assert pair_plans([once, once], [met]) != []


def test_of_many_pairs_some_are_taken_and_others_in_the_next_layout():
    plans = [(Fault("mmap", nth, "ENOMEM"),) for nth in range(1, 301)]
    seen = [ran((*("mmap",) * min(nth, 9), "munmap"), failed=min(nth, 9) - 1) for nth in range(1, 301)]
    taken = [{plan[0].nth for plan in pair_plans(plans, seen, turn)} for turn in range(4)]
    assert all(60 <= len(part) <= 100 for part in taken)
    assert set().union(*taken) == set(range(1, 301))


def test_the_longer_the_runs_the_fewer_pairs():
    plans = [(Fault("mmap", nth, "ENOMEM"),) for nth in range(1, 301)]
    seen = [ran((*("mmap",) * nth, "munmap"), failed=nth - 1) for nth in range(1, 301)]
    taken = [{plan[0].nth for plan in pair_plans(plans, seen, turn)} for turn in range(30)]
    assert all(15 <= len(part) <= 25 for part in taken)
    assert set().union(*taken) == set(range(1, 301))


def test_a_step_done_again_after_the_failure_fails_early_and_late():
    """Of a subject that goes on after a failure the first and the last steps that follow are failed."""
    again = ran(("mmap", *("mmap",) * 20), failed=0)
    pairs = [pair[1] for pair in pair_plans([(Fault("mmap", 1),)], [again])]
    assert [fault.nth for fault in pairs] == [2, 3, 4, 19, 20, 21]
    assert {fault.when for fault in pairs} == {"early", "late"}
