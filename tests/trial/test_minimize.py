"""Shrinking: the smallest case of a real violation, the same each time, which violates again by itself."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from places import TESTS
from subject_files import needs_compiler

from vfio_verify.generate.strategies import cases
from vfio_verify.judge import Violation, judge
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.confirm import Confirmation, confirm_and_minimize
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.cost import cost
from vfio_verify.values.model import expect
from vfio_verify.worker.worker import Worker

pytestmark = needs_compiler

BROKEN = TESTS / "subjects" / "broken"

# A world with everything in it, and an iovec longer than it need be.
DEVICES = (
    Device((Region(1, 20 * PAGE), Region(9, 20 * PAGE, (Area(PAGE, 8 * PAGE), Area(10 * PAGE, 8 * PAGE))))),
    Device((Region(4, 9 * PAGE, None, writable=False),), "areas", region_fds=True),
)
BLOCKS = (RamBlock(0, 1, 0), RamBlock(0, 9, 0), RamBlock(0, 9, 1), RamBlock(1, 4, 0), RamBlock(size=9 * PAGE))


def layout(*segments: tuple[int | None, int, int], **more: object) -> Case:
    iovec = tuple(Segment(block, first * PAGE, count * PAGE) for block, first, count in segments)
    return Case(DEVICES, BLOCKS, iovec, sum(s.length for s in iovec), **more)


LONG = layout((2, 3, 2), (2, 0, 4), (2, 7, 1), (2, 3, 2), (2, 1, 1), (2, 2, 3))
ONE_PAGE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)


@contextmanager
def subject_of(name: str, directory: Path | None = None, text: str = ""):
    """A broken subject of this suite by its name, or one of a text."""
    path = BROKEN / f"{name}.c"
    if directory is not None:
        path = directory / f"{name}.c"
        path.write_text(text)
    with open_subject(str(path)) as subject, Worker(subject.library) as worker:
        yield subject, worker


def violation_of(worker: Worker, subject: Subject, case: Case, clause: str) -> Violation:
    worker.renew()
    case = subject.adapt(case)
    (seen,) = worker.run(case)
    verdict = judge(case, expect(case), seen, has_errp=subject.has_errp)
    (found,) = (violation for violation in verdict.violations if violation.clause == clause)
    return found


def confirmed(name: str, case: Case, clause: str) -> Confirmation:
    with subject_of(name) as (subject, worker):
        violation = violation_of(worker, subject, case, clause)
        return confirm_and_minimize(Runner(worker, subject, "same-block"), [Candidate(violation, ())])


LATE = Fault("mmap", 5, "ENODEV", "late")


def test_a_refusal_of_everything_shrinks_to_one_page():
    assert confirmed("everything_refused", LONG, "ACCEPTS_VALID").violation.case == ONE_PAGE


def test_a_failure_shrinks_to_one_fault_of_the_plainest_kind():
    case = LONG.with_faults(LATE, Fault("find_block", 60))
    small = confirmed("never_unmapped", case, "UNMAP_ON_ERROR").violation.case
    assert small == ONE_PAGE.with_faults(Fault("mmap", 2))


def test_two_blocks_shrink_to_a_page_of_each():
    case = layout((1, 3, 2), (1, 0, 4), (2, 7, 1), (1, 3, 2), (1, 1, 1))
    small = confirmed("blocks_not_compared", case, "SAME_BLOCK").violation.case
    assert [(s.offset, s.length) for s in small.iovec] == [(0, PAGE), (0, PAGE)]
    assert {s.block for s in small.iovec} == {0, 1} == set(range(len(small.ram_blocks)))
    assert small.fault_plan == ()
    assert {refusal.clause for refusal in expect(small).refusals} == {"SAME_BLOCK"}


def test_a_segment_longer_than_its_area_shrinks_together_with_the_area_and_the_region():
    region = Region(0, 7 * PAGE, (Area(PAGE, 2 * PAGE),))
    case = Case((Device((region,)),), (RamBlock(0, 0, 0),), (Segment(0, 0, 3 * PAGE),), 3 * PAGE)
    small = confirmed("bound_wraps", case, "WITHIN_BLOCK").violation.case
    assert small.devices == (Device((Region(0, 2 * PAGE, (Area(0, PAGE),)),)),)
    assert small.iovec == (Segment(0, 0, 2 * PAGE),)


def test_a_number_of_segments_that_matters_stays_and_nothing_else_does():
    case = layout(*((2, i * 3 % 7, 1 + i % 2) for i in range(150)))
    small = confirmed("over_128_entries_refused", case, "ACCEPTS_VALID").violation.case
    assert len(small.iovec) == 129
    assert set(small.iovec) == {Segment(0, 0, PAGE)}
    assert small.devices == ONE_PAGE.devices


def test_a_size_that_matters_stays_and_nothing_else_does():
    region = Region(9, 8 << 30)
    case = Case(
        (Device((region,)),), (RamBlock(0, 9, 0),), (Segment(0, PAGE, PAGE), Segment(0, 0, 6 << 30)), (6 << 30) + PAGE
    )
    small = confirmed("over_2_gib_refused", case, "ACCEPTS_VALID").violation.case
    assert len(small.iovec) == 1
    assert 2 << 30 < small.total_size + PAGE <= (3 << 30) + PAGE
    assert small.devices[0].regions[0].index == 0


def test_shrinking_is_deterministic():
    first, second = (confirmed("never_unmapped", LONG.with_faults(LATE), "UNMAP_ON_ERROR") for _ in range(2))
    assert first.violation.case == second.violation.case
    assert first.violation.summary == second.violation.summary
    assert first.tries == second.tries


def test_a_violation_that_does_not_come_again_is_not_confirmed():
    with subject_of("everything_refused") as (subject, worker):
        violation = violation_of(worker, subject, LONG, "ACCEPTS_VALID")
    with Worker() as innocent:
        confirmation = confirm_and_minimize(Runner(innocent, CORE, "same-block"), [Candidate(violation, (ONE_PAGE,))])
    assert confirmation.violation is None
    assert confirmation.tries >= 3


# ---- subjects with a memory --------------------------------------------------------------------------------

MEMORY = """
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include <sys/mman.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, void **addr, size_t total_size, Error **errp)
{
    static unsigned calls, longest;
    char *map, *at;

    calls++;
    if (REFUSES) {
        error_setg(errp, "not today");
        return false;
    }
    longest = iov_cnt > longest ? iov_cnt : longest;
    map = at = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; map != MAP_FAILED && i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *block = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        VFIORegion *region = block ? vfio_get_region_from_mr(block->mr) : NULL;
        int fd = region ? vfio_device_get_region_fd(region->vbasedev, region->nr) : -1;

        if (fd < 0 || mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                           region->fd_offset + block->mr->addr + offset) == MAP_FAILED) {
            munmap(map, total_size);
            map = MAP_FAILED;
            break;
        }
        at += iov[i].iov_len;
    }
    if (map == MAP_FAILED) {
        error_setg(errp, "cannot map");
        return false;
    }
    *addr = map;
    return true;
}
"""


def forgetful(condition: str) -> str:
    return MEMORY.replace("REFUSES", condition)


def test_a_finding_that_needs_an_earlier_call_is_one_of_repeatable_and_keeps_the_smallest_such_call(tmp_path):
    """REPEATABLE: what a call does must not depend on earlier ones."""
    earlier = layout((2, 0, 2), (2, 1, 1), (2, 3, 2), (2, 5, 1), (2, 0, 1))
    history = (ONE_PAGE, layout((0, 1, 1), (0, 0, 1)), earlier, ONE_PAGE)
    with subject_of("subject", tmp_path, forgetful("longest >= 3")) as (subject, worker):
        for case in history:
            worker.run(case)
        (seen,) = worker.run(LONG)
        (violation,) = judge(LONG, expect(LONG), seen).violations
        assert violation.clause == "ACCEPTS_VALID"
        found = confirm_and_minimize(Runner(worker, subject, "same-block"), [Candidate(violation, history)]).violation
    assert found.clause == "REPEATABLE"
    assert "ACCEPTS_VALID" in found.summary
    assert msgspec.structs.replace(found.case, earlier=()) == ONE_PAGE
    (before,) = found.case.earlier
    assert len(before.iovec) == 3


def needs_calls(source: str, history: tuple[Case, ...], tmp_path: Path) -> Violation:
    """What ends the process in the last of these calls, made small."""
    with subject_of("subject", tmp_path, source) as (subject, worker):
        *_, (_, seen, past) = (one for case in history for one in worker.runs(case))
        (violation,) = judge(history[-1], expect(history[-1]), seen).violations
        found = confirm_and_minimize(
            Runner(worker, subject, "same-block"), [Candidate(violation, past.cases())]
        ).violation
    assert found is not None
    assert found.clause == "SURVIVES"
    return found


def test_a_crash_that_needs_the_call_before_it_keeps_that_call(tmp_path: Path) -> None:
    """SURVIVES: an earlier call is part of the case, and the clause stays."""
    source = forgetful("longest >= 3 && iov_cnt < 3 && *(volatile int *)NULL")  # never in the second call of a run
    found = needs_calls(source, (ONE_PAGE, layout((2, 0, 1), (2, 1, 1), (2, 0, 1)), ONE_PAGE), tmp_path)
    assert found.summary.startswith("after 1 earlier call: SIGSEGV")
    (before,) = found.case.earlier
    assert len(before.iovec) == 3
    assert found.case.iovec == ()


def test_a_crash_that_needs_many_calls_is_told_with_one_small_call_so_often(tmp_path: Path) -> None:
    """A success is made twice in a run: the 40th call is the second one of the 20th run."""
    found = needs_calls(forgetful("calls >= 40 && *(volatile int *)NULL"), (LONG,) * 20, tmp_path)
    assert found.case.earlier == (ONE_PAGE,) * 19
    assert msgspec.structs.replace(found.case, earlier=()) == ONE_PAGE


@pytest.mark.usefixtures("short_of_time")
def test_a_hang_after_an_earlier_call_is_made_small_in_seconds(tmp_path: Path) -> None:
    source = forgetful("longest >= 3 && iov_cnt < 3 && ({ while (true) { calls++; } 1; })")
    began = time.monotonic()
    found = needs_calls(source, (ONE_PAGE, LONG, layout((2, 0, 1), (2, 1, 1))), tmp_path)
    assert found.summary == "after 1 earlier call: does not return"
    assert [len(case.iovec) for case in (*found.case.earlier, found.case)] == [3, 0]
    assert time.monotonic() - began < 30


def test_a_smaller_candidate_that_needs_more_does_not_hide_one_that_comes_again(tmp_path: Path) -> None:
    with subject_of("subject", tmp_path, forgetful("iov_cnt >= 3 || calls > 20")) as (subject, worker):
        large = violation_of(worker, subject, LONG, "ACCEPTS_VALID")
        small = msgspec.structs.replace(large, case=ONE_PAGE)
        candidates = (Candidate(small, (ONE_PAGE,)), Candidate(large, ()))
        found = confirm_and_minimize(Runner(worker, subject, "same-block"), candidates).violation
    assert found.clause == "ACCEPTS_VALID"
    assert len(found.case.iovec) == 3


def test_what_is_found_violates_again_in_a_fresh_process(tmp_path):
    """A candidate that fails only because of the candidates before it must not be taken for the smallest case."""
    with subject_of("subject", tmp_path, forgetful("iov_cnt >= 3 || calls > 2")) as (subject, worker):
        violation = violation_of(worker, subject, LONG, "ACCEPTS_VALID")
        found = confirm_and_minimize(Runner(worker, subject, "same-block"), [Candidate(violation, ())]).violation
        assert violation_of(worker, subject, found.case, "ACCEPTS_VALID").cause == found.cause
    assert len(found.case.iovec) == 3


# ---- what is less ------------------------------------------------------------------------------------------


@given(cases(), cases())
def test_costs_order_all_cases(one, other):
    assert (cost(one) < cost(other)) + (cost(other) < cost(one)) + (cost(one) == cost(other)) == 1


@pytest.mark.parametrize(
    "more",
    [
        LONG,
        ONE_PAGE.with_faults(Fault("mmap", 1)),
        msgspec.structs.replace(ONE_PAGE, earlier=(ONE_PAGE,)),
        msgspec.structs.replace(ONE_PAGE, errp="null"),
        msgspec.structs.replace(ONE_PAGE, total_size=PAGE + 1),
        msgspec.structs.replace(ONE_PAGE, iovec=(Segment(0, 0, PAGE - 1),), total_size=PAGE - 1),
        msgspec.structs.replace(ONE_PAGE, devices=(Device((Region(0, 2 * PAGE),)),)),
        msgspec.structs.replace(ONE_PAGE, ram_blocks=(RamBlock(0, 0, 0), RamBlock(size=PAGE))),
    ],
)
def test_one_page_of_a_small_world_is_less_than_anything_else(more):
    assert cost(ONE_PAGE) < cost(more)
