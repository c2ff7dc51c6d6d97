"""Sequences over one world: after each step the address space is as the model says, or the subject is caught.

What is real is read from outside, in the worker's /proc/PID/maps and /proc/PID/mem, and not as the world tells it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
from case_texts import from_json
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from one_worker import open_fds
from places import TESTS
from strategies import sequences
from subject_files import needs_compiler

from vfio_verify.campaign.check import check_case
from vfio_verify.campaign.options import Options
from vfio_verify.judge.sequence import judge_sequence
from vfio_verify.report.case_text import case_rows
from vfio_verify.subject.subject import CORE, Subject, open_subject
from vfio_verify.trial.candidates import Candidate
from vfio_verify.trial.confirm import confirm_and_minimize
from vfio_verify.trial.runner import Runner
from vfio_verify.values import case as cases_of
from vfio_verify.values.backing import backing
from vfio_verify.values.case import (
    PAGE,
    Action,
    Area,
    Call,
    Case,
    Change,
    Device,
    Drop,
    End,
    Fault,
    Fork,
    RamBlock,
    Region,
    Segment,
)
from vfio_verify.values.cost import cost
from vfio_verify.values.observation import Observation, StepSeen
from vfio_verify.values.space import Space, actions_of
from vfio_verify.worker.answers import Reply
from vfio_verify.worker.worker import Worker

SUBJECTS = TESTS / "subjects"

DEVICES = (
    Device((Region(0, 16 * PAGE), Region(2, 16 * PAGE, (Area(2 * PAGE, 4 * PAGE), Area(8 * PAGE, 4 * PAGE))))),
    Device((Region(9, 8 * PAGE, None, writable=False),), "areas"),
)
BLOCKS = (RamBlock(0, 0, 0), RamBlock(0, 2, 0), RamBlock(0, 2, 1), RamBlock(1, 9, 0), RamBlock(size=4 * PAGE))


def call(*pieces: tuple[int | None, int, int], more: int = 0, fault: Fault | None = None) -> Call:
    """Pieces as block, first page and number of pages; a total that is off by `more`."""
    iovec = tuple(Segment(block, first * PAGE, count * PAGE) for block, first, count in pieces)
    return Call(iovec, sum(s.length for s in iovec) + more, (fault,) if fault else ())


def sequence(first: Call, *actions: Action) -> Case:
    return Case(DEVICES, BLOCKS, first.iovec, first.total_size, first.fault_plan, sequence=actions)


@contextmanager
def opened(name: str) -> Iterator[tuple[Subject, Worker]]:
    """The core, or a subject of this suite by its name."""
    found = [str(path) for path in SUBJECTS.glob(f"*/{name}.c")] or [name]
    with open_subject(found[0]) as subject, Worker(subject.library) as worker:
        yield subject, worker


@pytest.fixture(scope="module")
def core():
    with Worker() as worker:
        yield worker


def run(worker: Worker, case: Case) -> Observation:
    cases_of.check(case)
    (seen,) = worker.run(case)
    return seen


# ---- the state machine -------------------------------------------------------------------------------------


class Vma(NamedTuple):
    start: int
    end: int
    access: str
    offset: int
    inode: str


class AddressSpaces(RuleBasedStateMachine):
    """Steps are done one by one in a live worker; after each the model's address space equals the real one."""

    subject: ClassVar[Subject]
    worker: ClassVar[Worker]
    shortest: ClassVar[int]
    """Fewest steps after which the two were not equal."""

    def __init__(self) -> None:
        super().__init__()
        self.worker.renew()  # what another run left in the process is no part of this one
        self.world = Case(DEVICES, BLOCKS, (), 0)
        self.space = Space(self.world)
        self.begun = False
        self.calls = self.steps = 0
        self.hosts: tuple[int, ...] = ()
        self.addresses: dict[int, int] = {}
        self.dropped: set[int] = set()
        self.pages = 0

    # ---- steps

    def play(self, action: Action) -> StepSeen:
        self.steps += 1
        played = self.worker.play(None if self.begun else self.world, [action], last=False)
        self.begun = True
        assert isinstance(played.answer, Reply), f"the subject ended its process: {played.steps}"
        return played.steps[0]

    def map(self, made: Call, *, answers: bool) -> None:
        made = self.subject.adapt(sequence(made))
        made = Call(made.iovec, made.total_size, made.fault_plan)
        number, self.calls = self.calls, self.calls + 1
        seen = self.play(made).call
        self.hosts = self.hosts or seen.block_hosts
        self.expect(seen.mapped == answers, f"call {number} answers {seen.mapped}: {seen.message!r}")
        if self.space.map(made, mapped=seen.mapped) is not None:
            self.addresses[number] = seen.address
        self.pages = self.pages or seen.pages_before

    @initialize(pages=st.integers(1, 3))
    def begin(self, pages: int) -> None:
        self.map(call((0, 0, pages), (0, 4, 1)), answers=True)

    @rule(block=st.integers(0, 3), first=st.integers(0, 2), pages=st.integers(1, 2), pieces=st.integers(1, 3))
    def map_valid(self, block: int, first: int, pages: int, pieces: int) -> None:
        if block not in self.dropped:
            self.map(call(*[(block, (first + i) % 3, pages) for i in range(pieces)]), answers=True)

    @rule(
        refused=st.sampled_from(
            [
                call((4, 0, 1)),
                call((None, 0, 1)),
                call((0, 15, 2)),
                call((0, 0, 1), (1, 0, 1)),
                Call((), PAGE),
                Call((Segment(0, 8, PAGE),), PAGE),
            ]
        )
    )
    def map_refused(self, refused: Call) -> None:
        if not {segment.block for segment in refused.iovec} & self.dropped:
            self.map(refused, answers=False)

    @rule(block=st.integers(0, 3), nth=st.integers(1, 3), when=st.sampled_from(["early", "late"]))
    def map_with_fault(self, block: int, nth: int, when: str) -> None:
        if block not in self.dropped:
            fault = Fault("mmap", nth, "EINVAL", when, persistent=True)
            self.map(call((block, 0, 1), (block, 2, 1), fault=fault), answers=False)

    @precondition(lambda self: self.addresses)
    @rule(which=st.integers(0, 20))
    def end_any(self, which: int) -> None:
        mapping = sorted(self.addresses)[which % len(self.addresses)]
        step = self.play(End(mapping))
        ended = self.space.end(mapping)
        start = self.addresses.pop(mapping)
        there = [vma for vma in self.vmas() if vma.start < start + ended.length and start < vma.end]
        self.expect(step.done and not there, f"mapping {mapping} is ended, and there is {there}")

    @rule(block=st.integers(0, 3), page=st.integers(0, 3), last=st.booleans())
    def change(self, block: int, page: int, last: bool) -> None:
        if block in self.dropped or not self.begun:
            return
        change = Change(block, page * PAGE + last * (PAGE - 8))
        host = self.hosts[block] + change.offset
        before = self.word(host)
        assert self.play(change).done
        assert self.word(host) != before
        file = backing(self.world, self.world.ram_blocks[block].device, self.world.region_of(block).index)
        memory, offset = file.memory, file.offset + self.world.area_of(block).offset + change.offset
        for mapping in self.space.live.values():
            for piece in mapping.runs:
                if piece.memory == memory and 0 <= offset - piece.offset < piece.end - piece.start:
                    at = self.addresses[mapping.call] + piece.start + offset - piece.offset
                    self.expect(self.word(at) == self.word(host), f"mapping {mapping.call} does not show {change}")

    @precondition(lambda self: self.begun and len(self.dropped) < 3)
    @rule(block=st.integers(1, 3))
    def drop(self, block: int) -> None:
        if block not in self.dropped:
            self.dropped.add(block)
            assert self.play(Drop(block)).done
            assert self.at(self.vmas(), self.hosts[block]).access == "---p"

    @precondition(lambda self: self.begun)
    @rule()
    def fork(self) -> None:
        step = self.play(Fork())
        assert step.done or step.errno in (errno.EAGAIN, errno.EPERM)
        assert step.child is None

    # ---- what is real

    @invariant()
    def the_address_space_is_the_models(self) -> None:
        if not self.begun:
            return
        vmas = self.vmas()
        inodes = {BLOCKS[b].device: self.at(vmas, host).inode for b, host in enumerate(self.hosts) if b in (0, 3)}
        if 3 in self.dropped:
            inodes.pop(1)
        for mapping in self.space.live.values():
            start = self.addresses[mapping.call]
            for piece in mapping.runs:
                for page in range(piece.start, piece.end, PAGE):
                    vma = self.at(vmas, start + page)
                    shown = vma and (vma.access, vma.offset + start + page - vma.start)
                    self.expect(
                        shown == ("r--s", piece.offset + page - piece.start)
                        and inodes.get(piece.memory, vma.inode) == vma.inode,
                        f"page {page:#x} of mapping {mapping.call} is {vma}, not {piece}",
                    )
        held = sum(vma.end - vma.start for vma in vmas) // PAGE
        ends = [(self.addresses[m.call], self.addresses[m.call] + m.length) for m in self.space.live.values()]
        apart = all(a == b or a[1] <= b[0] or b[1] <= a[0] for a in ends for b in ends)
        self.expect(apart, f"mappings share pages: {ends}")
        besides = held - sum(mapping.length for mapping in self.space.live.values()) // PAGE
        self.expect(besides == self.pages, f"{besides} pages besides the mappings")

    def expect(self, holds: bool, message: str) -> None:
        if not holds:
            type(self).shortest = min(self.shortest, self.steps)
        assert holds, message

    def vmas(self) -> list[Vma]:
        found = []
        for line in Path(f"/proc/{self.worker._process.pid}/maps").read_text().splitlines():
            where, access, offset, _, inode = line.split()[:5]
            if not line.endswith("[vsyscall]"):
                start, end = (int(word, 16) for word in where.split("-"))
                found.append(Vma(start, end, access, int(offset, 16), inode))
        return found

    @staticmethod
    def at(vmas: list[Vma], address: int) -> Vma | None:
        return next((vma for vma in vmas if vma.start <= address < vma.end), None)

    def word(self, address: int) -> bytes:
        with Path(f"/proc/{self.worker._process.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(8)


def machine_of(subject: Subject, worker: Worker) -> type[AddressSpaces]:
    return type("Machine", (AddressSpaces,), {"subject": subject, "worker": worker, "shortest": 1 << 30})


@pytest.mark.parametrize(
    "name",
    ["core", *(pytest.param(n, marks=needs_compiler) for n in ("check_first", "hinted_by_last", "own_descriptor"))],
)
def test_after_each_step_the_real_address_space_is_the_models(name: str) -> None:
    with opened(name) as (subject, worker):
        run_state_machine_as_test(
            machine_of(subject, worker),
            settings=settings(max_examples=40, stateful_step_count=15, suppress_health_check=list(HealthCheck)),
        )
        assert worker.restarts


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "name", ["last_placeholder_unmapped", "adjacent_mappings_merged", "first_source_cached", "gives_up_after_failure"]
)
def test_the_state_machine_fails_on_what_only_a_sequence_shows(name: str) -> None:
    with opened(name) as (subject, worker):
        machine = machine_of(subject, worker)
        with pytest.raises(BaseException) as failure:  # noqa: PT011  # several failures come as a group
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=100,
                    stateful_step_count=15,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=list(HealthCheck),
                ),
            )
        assert isinstance(failure.value, AssertionError | BaseExceptionGroup)
        assert machine.shortest <= 5


# ---- the world ------------------------------------------------------------------------------------------------

EVERYTHING = sequence(
    call((0, 0, 1), (0, 2, 2)),
    call((0, 0, 1)),
    Change(0, 0),
    End(0),
    call((3, 1, 2)),
    Fork(),
    call((0, 0, 1), more=PAGE),
    Drop(0),
    End(3),
    End(2),
)


def test_each_step_shows_the_mappings_that_live(core):
    seen = run(core, EVERYTHING)
    live = [[mapping.call for mapping in step.mappings] for step in seen.steps]
    assert live == [[0], [0, 1], [0, 1], [1], [1, 2], [1, 2], [1, 2], [1, 2], [1, 2], [1]]
    assert [step.done for step in seen.steps] == [True] * 8 + [False, True]
    first = seen.steps[0].call.pages_before
    assert [step.pages - first for step in seen.steps] == [3, 4, 4, 1, 3, 3, 3, 3, 3, 1]
    assert not any(mapping.differences for step in seen.steps for mapping in step.mappings)
    assert all(mapping.pages_compared for step in seen.steps for mapping in step.mappings)


def test_done_in_one_message_or_step_by_step_the_same_is_seen(core):
    whole = run(core, EVERYTHING).steps
    actions = actions_of(EVERYTHING)
    single = [
        core.play(EVERYTHING if i == 0 else None, [action], last=i + 1 == len(actions)).steps[0]
        for i, action in enumerate(actions)
    ]
    for a, b in zip(whole, single, strict=True):
        assert [(m.call, m.runs, m.differences) for m in a.mappings] == [
            (m.call, m.runs, m.differences) for m in b.mappings
        ]
        assert (a.done, a.left, a.child, a.call and a.call.mapped) == (
            b.done,
            b.left,
            b.child,
            b.call and b.call.mapped,
        )


def test_a_sequence_leaves_nothing_behind(core):
    before = run(core, sequence(call((0, 0, 1)), Change(0, 0))).steps[0].call
    restarts, fds = core.restarts, open_fds(core)
    for _ in range(20):
        run(core, EVERYTHING)
    after = run(core, sequence(call((0, 0, 1)), Change(0, 0))).steps[0].call
    assert (after.pages_before, open_fds(core)) == (before.pages_before, fds)
    assert not after.differences  # the word that was changed has its stamp again
    assert core.restarts == restarts


def test_a_session_that_was_not_ended_does_not_disturb_the_next_case(core):
    before = run(core, sequence(call((0, 0, 1)), Fork())).steps[0].call.pages_before
    core.play(EVERYTHING, [call((0, 0, 4)), Change(0, 0)], last=False)
    (seen,) = core.run(Case(DEVICES, BLOCKS, call((0, 0, 1)).iovec, PAGE))
    assert seen.mapped
    assert not seen.differences
    assert seen.pages_before == before


def test_what_does_not_fit_into_one_reply_comes_in_several(core):
    many = call(*[(0, i % 8, 1) for i in range(9000)])
    seen = run(core, sequence(many, many, many, End(0), many, Change(0, 0), End(1)))
    assert [len(step.mappings) for step in seen.steps] == [1, 2, 3, 2, 3, 3, 2]
    assert not judge_sequence(sequence(many, many, many, End(0), many, Change(0, 0), End(1)), "same-block", seen).blamed


@settings(max_examples=60)
@given(case=sequences())
def test_the_core_conforms_in_every_sequence(core: Worker, case: Case) -> None:
    cases_of.check(case)
    core.renew()
    seen = run(core, case)
    assert len(seen.steps) == 1 + len(case.sequence)
    verdict = judge_sequence(case, "same-block", seen)
    assert not verdict.blamed


# ---- judged, shrunk, replayed -----------------------------------------------------------------------------------

LONG = (
    Fork(),
    call((3, 0, 2)),
    Change(0, 8),
    call((2, 0, 1), (2, 1, 2)),
    End(1),
    call((0, 1, 2), (0, 6, 3)),
    Drop(3),
    call((0, 3, 3), (None, 0, 1)),
    call((0, 1, 1)),
)


@needs_compiler
def test_a_damaged_mapping_is_shrunk_to_the_steps_that_damage_it():
    with opened("last_placeholder_unmapped") as (subject, worker):
        case = sequence(call((0, 2, 3), (0, 0, 1)), *LONG)
        violation = next(v for v in check_case(subject, Options(), case).confirmed if v.cause == "gone")
        assert violation.clause == "REPEATABLE"
        assert violation.summary == "after step 8 (call 4): part of mapping 3 is gone"
        small = confirm_and_minimize(Runner(worker, subject, "same-block"), [Candidate(violation, ())]).violation
    assert small is not None
    assert small.summary == "after step 1 (call 1): part of mapping 0 is gone"
    assert len(small.case.sequence) == 1
    assert [s.length for s in small.case.iovec] == [PAGE]
    assert len(small.case.ram_blocks) == 1
    assert cost(small.case) < cost(case)


@needs_compiler
def test_a_call_that_is_wrong_alone_too_is_no_matter_of_the_sequence():
    with opened("blocks_not_compared") as (subject, _):
        result = check_case(subject, Options(), sequence(call((0, 0, 1)), End(0), call((0, 0, 1), (1, 0, 1))))
    assert {violation.clause for violation in result.confirmed} >= {"SAME_BLOCK"}
    assert "REPEATABLE" not in {violation.clause for violation in result.confirmed}
    assert all(not violation.case.sequence for violation in result.confirmed)


@needs_compiler
def test_a_call_that_is_wrong_only_after_others_violates_repeatable():
    with opened("gives_up_after_failure") as (subject, _):
        failing = call((0, 0, 1), fault=Fault("mmap", 2))
        (violation,) = check_case(subject, Options(), sequence(failing, Fork(), call((0, 0, 1)), End(1))).confirmed
    assert violation.clause == "REPEATABLE"
    assert violation.summary.startswith("in step 2 (call 1), and not in the same call alone: ")
    assert violation.summary.endswith("(ACCEPTS_VALID)")
    assert violation.case.sequence == (Fork(), call((0, 0, 1)))


@needs_compiler
def test_a_later_call_that_ends_the_process_violates_survives():
    with opened("entry_zero_read") as (subject, worker):
        case = sequence(call((0, 0, 1)), call((0, 1, 1)), Call((), PAGE), End(0))
        seen = run(worker, case)
        result = check_case(subject, Options(), case)
    assert len(seen.steps) == 3
    assert seen.steps[2].call.death is not None
    assert [violation.clause for violation in result.confirmed] == ["SURVIVES"]


def test_a_sequence_reads_one_step_a_line():
    rows = [text for name, text in case_rows(EVERYTHING) if name.startswith("step")]
    assert rows == [
        "call 1: block 0, 0x1000 bytes",
        "the device changes the word at block 0",
        "the caller ends mapping 0",
        "call 2: block 3 + 0x1000, 0x2000 bytes",
        "the process forks",
        "call 3: block 0, 0x1000 bytes; total_size 0x2000",
        "block 0 is removed, and its host address with it",
        "the caller ends mapping 3",
        "the caller ends mapping 2",
    ]


def test_a_sequence_comes_back_from_json():
    assert from_json(EVERYTHING.to_json()) == EVERYTHING


def test_the_core_conforms_on_a_replayed_sequence():
    result = check_case(CORE, Options(), EVERYTHING)
    assert not result.confirmed
    assert result.tally.checked["REPEATABLE"]
