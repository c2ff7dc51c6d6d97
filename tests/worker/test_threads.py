"""Several concurrent calls: what they do to each other is found, told with the interleaving, and never made up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from case_texts import from_json
from msgspec.structs import replace
from places import TESTS
from rich.console import Console
from short_checks import no_kernel_faults
from subject_files import CORRECT, SubjectFile, built_once, needs_compiler

from vfio_verify.campaign.check import check, check_case
from vfio_verify.campaign.options import Options
from vfio_verify.errors import HarnessError
from vfio_verify.generate.concurrent import concurrent_cases, suits
from vfio_verify.judge import Violation
from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.report.report import make_report
from vfio_verify.report.text import print_report
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.trial import confirm
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.runner import Runner
from vfio_verify.values.case import PAGE, Call, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.case import check as check_makes_sense
from vfio_verify.values.model import expect
from vfio_verify.values.observation import Observation
from vfio_verify.worker import native, thread_wire, wire
from vfio_verify.worker.worker import Worker

BROKEN = TESTS / "subjects" / "broken"


LAYOUT = Case(
    devices=(Device((Region(0, 16 * PAGE),)),),
    ram_blocks=(RamBlock(0, 0, 0),),
    iovec=tuple(Segment(0, page * PAGE, PAGE) for page in (0, 6, 12, 2)),
    total_size=4 * PAGE,
)

RACES = {
    "base_in_static": "REPEATABLE",
    "offsets_in_static_array": "REPEATABLE",
    "region_info_in_static": "REPEATABLE",
    "cache_without_lock": "REPEATABLE",
    "reserved_anew_by_assembly": "NO_WINDOW",
    "error_in_static": "SURVIVES",
}
"""What one thread alone never shows, and the clause under which it is reported."""


@contextmanager
def one_processor() -> Iterator[None]:
    """Workers started in here have one processor only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def found_in(subject: Subject, worker: Worker, case: Case, rounds: int = 60) -> tuple[Violation, ...]:
    adapted = subject.adapt(case)
    (seen,) = worker.run(adapted, rounds=rounds)
    return judge_concurrent(adapted, "same-block", seen, has_errp=subject.has_errp).violations


def clauses_found(subject: Subject, rounds: int = 60) -> set[str]:
    """What a fresh process shows of the layout's concurrent calls."""
    with Worker(subject.library) as worker:
        return {v.clause for case in concurrent_cases(LAYOUT) for v in found_in(subject, worker, case, rounds)}


# ---- what is broken is found ------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize(("name", "clause"), RACES.items())
def test_a_race_is_found_in_every_process_also_on_one_processor(name, clause):
    with built_once(BROKEN / f"{name}.c") as subject:
        assert all(clause in clauses_found(subject) for _ in range(3))
        with one_processor():
            assert all(clause in clauses_found(subject) for _ in range(3))


@needs_compiler
def test_a_race_is_reported_on_a_small_case_with_the_interleaving_and_the_case_shows_it_again():
    """REPEATABLE"""
    with built_once(BROKEN / "base_in_static.c") as subject:
        result = check(subject, Options(examples=20), why_no_kernel_fault=no_kernel_faults)
        (found,) = [v for v in result.confirmed if v.clause == "REPEATABLE"]
        case = from_json(found.case.to_json())
        assert len(case.concurrent) == 1
        assert len(case.iovec) == len(case.concurrent[0].iovec) == 1
        again = check_case(subject, Options(), case)
        assert "REPEATABLE" in {v.clause for v in again.confirmed}
        report = make_report(subject, Options(), again)
    (entry,) = [v for v in report.violations if v.clause == "REPEATABLE"]
    assert "calls from several threads at once disturb each other" in entry.summary
    calls = entry.evidence.calls
    assert {line.partition(":")[0] for line in calls} >= {"thread 1", "thread 2"}
    assert any("mmap(A" in line for line in calls)
    assert len(calls) <= 14
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        print_report(report, console)
    text = console.export_text()
    assert "thread 1        0  A" in text
    assert "thread 2        0  A" in text
    assert '"alongside":[' in text


@needs_compiler
def test_the_hole_of_a_reservation_made_anew_is_seen_though_its_calls_are_not():
    """NO_WINDOW: the two system calls do not go through the world."""
    case = replace(LAYOUT, concurrent=(Call(LAYOUT.iovec, LAYOUT.total_size),))
    with built_once(BROKEN / "reserved_anew_by_assembly.c") as subject, Worker(subject.library) as worker:
        (seen,) = worker.run(case)
        (alone,) = worker.run(LAYOUT)
    assert seen.threads is not None
    hole = seen.threads.hole
    assert hole is not None
    assert hole.start <= hole.at < hole.end
    assert hole.end - hole.start == LAYOUT.total_size
    assert alone.mapped


@needs_compiler
def test_a_crash_at_once_tells_its_thread_and_the_calls_until_then():
    """SURVIVES"""
    nowhere = Segment(None, 0, PAGE)
    refused = Call((nowhere,), PAGE)
    case = replace(LAYOUT, iovec=(nowhere,), total_size=PAGE, concurrent=(refused,))
    with built_once(BROKEN / "error_in_static.c") as subject, Worker(subject.library) as worker:
        (seen,) = worker.run(case)
        (after,) = worker.run(LAYOUT)
        (violation,) = judge_concurrent(case, "same-block", seen, has_errp=True).violations
    assert seen.death is not None
    assert seen.death.how == "abort"
    assert "set twice" in seen.death.note
    assert seen.threads is not None
    assert seen.threads.dead in (0, 1)
    assert {number for _, number, _ in seen.threads.steps} == {0, 1}
    assert violation.clause == "SURVIVES"
    assert f"in thread {seen.threads.dead + 1}" in violation.summary
    assert after.mapped  # the worker goes on


DEADLOCK = """
#include <pthread.h>
#include "qemu/osdep.h"
#include "qapi/error.h"

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, two = PTHREAD_MUTEX_INITIALIZER;

bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    ram_addr_t offset;

    pthread_mutex_lock(n % 2 ? &one : &two);
    qemu_ram_block_from_host(iov[0].iov_base, false, &offset);
    pthread_mutex_lock(n % 2 ? &two : &one);
    pthread_mutex_unlock(&one);
    pthread_mutex_unlock(&two);
    error_setg(errp, "nothing is ever mapped");
    return false;
}
"""


@needs_compiler
def test_calls_that_wait_for_each_other_are_a_hang(tmp_path):
    """SURVIVES"""
    source = tmp_path / "deadlock.c"
    source.write_text(DEADLOCK)
    odd = Call(LAYOUT.iovec[:1], PAGE)
    case = replace(LAYOUT, concurrent=(odd,))
    with open_subject(str(source)) as subject, Worker(subject.library, sleep_seconds=1) as worker:
        (seen,) = worker.run(case)
        (violation,) = judge_concurrent(case, "same-block", seen).violations
    assert seen.death is not None
    assert seen.death.how == "hang"
    assert violation.clause == "SURVIVES"


# ---- where threads run -----------------------------------------------------------------------------------

PLACED = """
#include <sched.h>
#include "qemu/osdep.h"
#include "qapi/error.h"

bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    cpu_set_t mine;

    if (sched_getaffinity(0, sizeof(mine), &mine) < 0 || CPU_COUNT(&mine) != 1) {
        abort();
    }
    error_setg(errp, "nothing is ever mapped");
    return false;
}
"""


@needs_compiler
def test_a_thread_has_one_processor_in_every_round_and_the_process_is_as_before(tmp_path):
    """Batons go round many times faster so. The filter of system calls once kept threads from it, unseen."""
    source = tmp_path / "placed.c"
    source.write_text(PLACED)
    with open_subject(str(source)) as subject, Worker(subject.library) as worker:
        for case in concurrent_cases(LAYOUT):
            (seen,) = worker.run(case)
            assert seen.threads is not None
            assert (seen.death, seen.threads.rounds) == (None, 122)
        assert worker.restarts == 0
        assert os.sched_getaffinity(worker._process.pid) == os.sched_getaffinity(0)


# ---- what is right raises no alarm --------------------------------------------------------------------------


@pytest.mark.parametrize("parse_maps", [False, True])
def test_the_core_maps_from_four_threads_as_from_one(parse_maps):
    with Worker(parse_maps=parse_maps) as worker:
        for case in concurrent_cases(LAYOUT):
            (seen,) = worker.run(case)
            assert seen.threads is not None
            assert (seen.threads.round, seen.threads.hole, seen.threads.grab) == (None, None, None)
            assert seen.threads.rounds == 122
            verdict = judge_concurrent(case, "same-block", seen)
            assert verdict.violations == ()
            assert verdict.checked >= {"REPEATABLE", "NO_WINDOW", "SURVIVES"}
            calls = (Call(case.iovec, case.total_size), *case.concurrent)
            for call, alone in zip(calls, seen.threads.control, strict=True):
                wanted = expect(replace(case, iovec=call.iovec, total_size=call.total_size, concurrent=()))
                assert alone.mapped == wanted.must_map
        assert worker.restarts == 0


@needs_compiler
@pytest.mark.parametrize("file", CORRECT, ids=lambda file: file.path.stem)
def test_a_correct_subject_raises_no_alarm_at_once(file: SubjectFile) -> None:
    with built_once(file.path) as subject:
        assert clauses_found(subject) == set()
        with one_processor():
            assert clauses_found(subject, rounds=30) == set()


@needs_compiler
@pytest.mark.parametrize("name", ["writable_overlays", "area_offset_ignored", "error_on_success"])
def test_what_is_wrong_with_one_thread_is_not_blamed_on_several(name):
    """REPEATABLE: the control shows it too."""
    device = Device((Region(0, 16 * PAGE, areas=()), Region(1, 16 * PAGE)))
    layout = replace(LAYOUT, devices=(device,), ram_blocks=(RamBlock(0, 1, 0),))
    with built_once(BROKEN / f"{name}.c") as subject, Worker(subject.library) as worker:
        for case in concurrent_cases(layout):
            assert found_in(subject, worker, case) == ()


def test_a_check_of_the_core_exercises_calls_at_once():
    result, alone = (check(CORE, Options(examples=60, seed=3), why_no_kernel_fault=no_kernel_faults) for _ in range(2))
    assert result.confirmed == result.unconfirmed == ()
    assert result.tally.checked == alone.tally.checked


# ---- belief ------------------------------------------------------------------------------------------------------


class Scripted:
    """Says of a case what a list says, one process after another."""

    def __init__(self, answers: str) -> None:
        self.answers = iter(answers)
        self.asked = 0

    def accepts(self, _case: Case, *, fresh: bool) -> bool:
        assert fresh
        self.asked += 1
        return next(self.answers) == "x"


@pytest.mark.parametrize(
    ("answers", "believed", "asked"),
    [
        ("xxx", True, 3),
        ("....x....x.........x", True, 20),
        ("x" + "." * 18, False, 19),
        ("." * 18, False, 18),
    ],
)
def test_a_finding_of_calls_at_once_must_come_again_in_three_of_twenty_processes(answers, believed, asked):
    trial = Scripted(answers)
    assert confirm._comes_again_often(trial, LAYOUT, confirm.FRESH_NEEDED) is believed  # type: ignore[arg-type]
    assert trial.asked == asked


@needs_compiler
def test_a_finding_that_does_not_come_again_is_told_as_such():
    """Found with a racy subject, confirmed with a correct one."""
    case = replace(LAYOUT, concurrent=(Call(LAYOUT.iovec, LAYOUT.total_size),))
    with built_once(BROKEN / "base_in_static.c") as subject, Worker(subject.library) as worker:
        violation = found_in(subject, worker, case)[0]
    with Worker() as worker:
        runner = Runner(worker, CORE, "same-block")
        assert confirm.confirm_and_minimize(runner, [Candidate(violation, ())]).violation is None
        assert confirm.comes_again(runner, violation) is None


# ---- cases and replies -------------------------------------------------------------------------------------------


def test_the_cases_of_a_layout_are_sound_and_have_two_to_four_threads_on_one_block_and_on_several():
    cases = list(concurrent_cases(LAYOUT))
    for case in cases:
        check_makes_sense(case)
        assert 1 <= len(case.concurrent) <= 3
        assert from_json(case.to_json()) == case
    blocks = [{s.block for iovec in (c.iovec, *(o.iovec for o in c.concurrent)) for s in iovec} for c in cases]
    assert {0} in blocks
    assert {0, 1} in blocks
    assert any(None in used for used in blocks)
    iovecs = {call.iovec for case in cases for call in case.concurrent}
    assert LAYOUT.iovec in iovecs
    assert len(iovecs) > 4


def test_layouts_too_large_or_with_threads_already_are_left_out():
    assert suits(LAYOUT)
    assert not suits(replace(LAYOUT, iovec=LAYOUT.iovec * 10, total_size=40 * PAGE))
    assert not suits(replace(LAYOUT, total_size=1 << 40))
    assert not suits(replace(LAYOUT, concurrent=(Call(LAYOUT.iovec, LAYOUT.total_size),)))


def test_a_damaged_reply_is_an_error_of_the_harness():
    case = next(iter(concurrent_cases(LAYOUT)))
    with Worker() as worker:
        worker.run(case)
        memory = worker._process.memory
        reply, log = bytearray(memory.reply(native.LOG_AT)), memory.log(0, native.LOG_AT)

    def read_log(offset, size):
        return log[offset : offset + size]

    after = wire.unpack_head(memoryview(reply)).size
    for at, damage in ((0, b"\xff" * 8), (after, b"\xff" * 8), (after + 24, b"\x07")):
        damaged = bytearray(reply)
        damaged[at : at + len(damage)] = damage
        with pytest.raises(HarnessError):
            thread_wire.unpack(memoryview(damaged), read_log, case)
    assert isinstance(thread_wire.unpack(memoryview(reply), read_log, case), Observation)


def test_sixty_four_threads_are_not_too_many():
    call = Call(LAYOUT.iovec, LAYOUT.total_size)
    case = replace(LAYOUT, concurrent=(call,) * 63)
    check_makes_sense(case)
    with Worker(cpu_seconds=20) as worker:
        (seen,) = worker.run(case, rounds=6)
    assert seen.threads is not None
    assert seen.threads.round is None
    assert len(seen.threads.control) == 64
