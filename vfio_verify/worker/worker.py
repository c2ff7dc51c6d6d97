"""A subject's worker: cases go out, observations come home, whatever the subject does to its process."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from msgspec.structs import replace

from vfio_verify.values.case import PAGE, Action, Call, Case, Fault, Fork, Kernel, Variables
from vfio_verify.values.observation import Observation, StepSeen
from vfio_verify.worker import native, thread_wire, wire
from vfio_verify.worker.answers import End, Kind, Reply, Request
from vfio_verify.worker.asking import Asker
from vfio_verify.worker.blame import Doubt, any_may_have_done_it
from vfio_verify.worker.deaths import unfinished
from vfio_verify.worker.limits import MEMORY_BYTES, Limits
from vfio_verify.worker.process import Process
from vfio_verify.worker.sandbox import Confinement, SandboxFeature

T = TypeVar("T")

_NOT_TAKEN_AWAY = ("sealed", "seccomp", "hugetlb")
"""Kernel faults that stay with the process."""
_CALLED_TWICE = 4096
"""Segments of a layout up to which a faultless success is followed by a second call."""
_ROUNDS = 120
"""Rounds of concurrent calls, each with another plan of which thread goes on when."""


class Past(NamedTuple):
    """What was called in a process before some call: the first `n` of `calls`, to which later ones are added."""

    calls: list[Case]
    n: int

    def cases(self) -> tuple[Case, ...]:
        """Each with its fault plan, in order."""
        return tuple(self.calls[: self.n])


class Ran(NamedTuple):
    """A run: the case with its fault plan, what was seen of it, and what its process had been called with before."""

    case: Case
    seen: Observation
    past: Past


class Played(NamedTuple):
    """What was seen of actions in one world, as far as the process lived, and the last answer."""

    steps: list[StepSeen]
    answer: Reply | End
    changes: int
    """Mappings of the harness that differed afterwards."""


def _is_restored(steps: Sequence[StepSeen]) -> bool:
    """Whether the process has as many pages as before the first step, once what is left of the mappings is unmapped."""
    first, last = steps[0].call, steps[-1]
    sizes = {seen.call: seen.runs[-1].end if seen.runs else 0 for seen in last.mappings}
    return first is None or last.pages - sum(sizes.values()) // PAGE == first.pages_before


def _lasts(case: Case) -> bool:
    """Whether its kernel fault stays with the process."""
    return case.kernel_fault is not None and case.kernel_fault.kind in _NOT_TAKEN_AWAY


def _layout(case: Case) -> tuple[bool, Case]:
    """What is the same for all fault plans of a layout: whether it is one call, neither a sequence nor concurrent ones,
    and the case without a plan."""
    return not case.sequence and not case.concurrent, case.with_faults()


def _host(case: Case) -> tuple[int, Kernel, Variables]:
    """What a process can rely on as long as it lives: how large pages are, how the kernel answers, and how the subject
    is built."""
    return case.page_size, case.kernel, case.variables


def _observations(answer: Reply | End) -> list[Observation]:
    """The observations of the runs that were finished. Raises DamageError."""
    return wire.unpack_reply(answer.data, answer.progress.finished, answer.progress.changes)


def _steps(asked: Sequence[Action], answer: Reply | End) -> list[StepSeen]:
    """What was seen of the actions that were finished. Raises DamageError."""
    return wire.unpack_session(answer.data, asked[: answer.progress.finished])


class Worker:
    """A subject's process. `library` is its shared object; None is the core. A context manager.

    A call hangs that takes `cpu_seconds` of processor time, or sleeps for `sleep_seconds`. A process that only waits
    for a processor does neither: a loaded machine is slow, and not wrong. Where starting the process itself takes very
    long, as under emulation, both limits are raised. With a sandbox, a worker that takes more than `memory_bytes`, or
    starts very many threads, is ended too.
    """

    def __init__(
        self,
        library: Path | None = None,
        *,
        cpu_seconds: float = 1.0,
        sleep_seconds: float = 3.0,
        parse_maps: bool = False,
        parts: SandboxFeature = SandboxFeature.ALL,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.history: list[Case] = []
        """What was called in the present process, in order, each with its fault plan. A process that ends leaves its
        list to the observations made in it; the next one begins another."""
        self.earlier_end: int | None = None
        """The number, from 0, of the first of the last case's earlier calls that ended the process."""
        self._restarts_before = 0
        self._flags = native.PARSE_MAPS if parse_maps else 0
        self._library = library
        self._process = Process(library, Limits(cpu_seconds, sleep_seconds, memory_bytes), parts)
        self._asker = Asker(self._process)

    @property
    def restarts(self) -> int:
        """How often a process was replaced, since it was opened or reset."""
        return self._process.restarts - self._restarts_before

    @property
    def confinement(self) -> Confinement:
        """What of the sandbox is in force; `parts` says what is asked for."""
        return self._process.confinement

    def covered(self) -> bytes:
        """A byte for each place in the subject's library, not 0 where a block of code began that ever ran here."""
        return self._process.memory.covered()

    def mark_covered(self, places: Iterable[int], *, now: bool) -> None:
        """Let these places be covered, or not."""
        self._process.memory.mark_covered(places, now=now)

    def renew(self) -> None:
        """Go on in a fresh process."""
        self.history = []
        self._process.renew()

    def reset(self) -> None:
        """Be as a worker that was just opened, in a fresh process, but keep what is covered."""
        if self.history or self.restarts:
            self.renew()
        self._restarts_before = self._process.restarts
        self.hurry(on=False)

    def hurry(self, *, on: bool) -> None:
        """Wait for a call only a fraction of the usual time. What is then taken for a hang may be none."""
        self._asker.hurries = on

    def close(self) -> None:
        """End the worker and its parent. May be called again."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- running cases ------------------------------------------------------------------------------------------

    def run(
        self, case: Case, plans: Sequence[Sequence[Fault]] | None = None, *, rounds: int = _ROUNDS
    ) -> list[Observation]:
        """What `runs` shows, where it does not matter what came before."""
        return [ran.seen for ran in self.runs(case, plans, rounds=rounds)]

    def runs(
        self,
        case: Case,
        plans: Sequence[Sequence[Fault]] | None = None,
        *,
        max_hangs: int = 1 << 30,
        rounds: int = _ROUNDS,
    ) -> list[Ran]:
        """A run of the case; with `plans`, one under each of them, of the layout of `case`.

        What the case says was called earlier is called first, and is then in the `past` of the run, not in its case. A
        faultless success is followed by a second call, or by the case's sequence if it has one: then the steps are in
        the observation. After `max_hangs` calls that did not return, the remaining plans are left out. A case with
        concurrent calls is run without faults, for so many rounds; there is one observation of them all.
        """
        first = (*case.earlier, case)[0]
        if self.history and _host(self.history[-1]) != _host(first):
            self.renew()  # what a subject may remember of its host does not change in a process
        self._call_earlier(case.earlier)
        case = replace(case, earlier=()) if case.earlier else case
        if case.concurrent:
            return [self._run_concurrent(case, rounds)]
        cases = [case] if plans is None else [case.with_faults(*plan) for plan in plans]
        return [self._run_sequence(one) for one in cases] if case.sequence else self._run_plans(cases, max_hangs)

    def past(self) -> Past:
        """What was called in the present process until now."""
        return Past(self.history, len(self.history))

    def _call_earlier(self, earlier: Sequence[Case]) -> None:
        """Make calls as they were made when a history was recorded: the fault plans of one layout by one request, and
        all in one process, whatever they leave mapped in it."""
        made = 0
        self.earlier_end = None
        for (is_plain, _), group in itertools.groupby(earlier, key=_layout):
            calls = list(group)
            if is_plain:
                self._call_plans(calls, made)
            else:
                for call in calls:
                    self.runs(call)
            made += len(calls)

    def _call_plans(self, calls: Sequence[Case], before: int) -> None:
        """Calls of one layout, of which nothing else is to be known than whether one ends the process. It is not made
        again."""
        while calls:
            answer = self._asker.ask(self._plans_request(calls))
            made = min(answer.progress.finished, len(calls))
            self.history += calls[:made]
            match answer:
                case End(kind=Kind.SUSPECTED):
                    self.renew()
                case Reply() if made:
                    if answer.changed or _lasts(calls[0]):
                        self.renew()
                case _:
                    self.earlier_end = before + made if self.earlier_end is None else self.earlier_end
                    self.renew()
                    made += 1
            before, calls = before + made, calls[made:]

    def _plans_request(self, cases: Sequence[Case]) -> Request:
        """Cases of one layout, each to be called with its plan."""
        layout = cases[0]
        twice = native.TWICE * (len(layout.iovec) <= _CALLED_TWICE)
        data = wire.pack_request(layout, [case.fault_plan for case in cases], self._flags | twice)
        has_kernel_fault = layout.kernel_fault is not None
        return Request(data, parts=len(cases), segments=len(layout.iovec), kernel_fault=has_kernel_fault)

    def _run_plans(self, cases: Sequence[Case], max_hangs: int) -> list[Ran]:
        """Run cases of one layout: all by one request, as far as it is known which run did what."""
        ran: list[Ran] = []
        doubt = Doubt("case", is_core=self._library is None)
        one_by_one = False
        while (left := cases[len(ran) :]) and max_hangs > 0:
            asked = left[:1] if one_by_one else left
            is_first = not self.history
            answer, finished = self._ask(self._plans_request(asked), _observations)
            if any_may_have_done_it(answer, len(asked), finished):
                one_by_one = True
                self.renew()
                continue
            for case, seen in zip(asked, finished, strict=False):
                ran.append(Ran(case, seen, self.past()))
                self.history.append(case)
            match answer:
                case Reply():
                    left_mapped = any(seen.pages_end != seen.pages_before for seen in finished)
                    self._renew_if_changed(answer, also=left_mapped or _lasts(cases[0]))
                case End():
                    last = [Ran(case, unfinished(answer), self.past()) for case in left[len(finished) :][:1]]
                    self.renew()
                    is_first = is_first and not finished
                    if last and not doubt.is_to_be_made_again(answer, number=len(ran), is_first=is_first):
                        ran += last
                        max_hangs -= answer.death.is_slow
        return ran

    def _run_sequence(self, case: Case) -> Ran:
        actions = (Call(case.iovec, case.total_size, case.fault_plan), *case.sequence)
        doubt = Doubt("sequence", is_core=self._library is None)
        past = self.past()
        played = self.play(case, actions, last=True)
        while isinstance(played.answer, End) and doubt.is_to_be_made_again(played.answer, is_first=not past.n):
            past = self.past()
            played = self.play(case, actions, last=True)
        if isinstance(played.answer, Reply):
            self.history.append(case)
            self._renew_if_changed(played.answer, also=bool(played.changes) or not _is_restored(played.steps))
        first = played.steps[0].call
        assert first is not None  # it was sent as one
        return Ran(case, replace(first, steps=tuple(played.steps), harness_changes=played.changes), past)

    def play(self, world: Case | None, actions: Sequence[Action], *, last: bool) -> Played:
        """Do these actions in one world, whose mappings live on until they are ended, or the world is.

        A world begins with the layout of `world`, goes on with None, and ends after the `last` actions, or when another
        case is run.
        """
        steps: list[StepSeen] = []
        changes = 0
        while True:
            left = actions[len(steps) :]
            request = Request(
                wire.pack_session(world, left, self._flags, last=last),
                parts=len(left),
                segments=max([0, *(len(action.iovec) for action in actions if isinstance(action, Call))]),
                forks=sum(isinstance(action, Fork) for action in left),
            )
            answer, more = self._ask(request, functools.partial(_steps, left))
            steps += more
            match answer:
                case End():
                    steps.append(StepSeen(unfinished(answer)))
                    self.renew()
                    return Played(steps, answer, changes)
                case Reply(progress):
                    changes += progress.changes
            if len(steps) >= len(actions):
                return Played(steps, answer, changes)
            world = None  # the reply had no room for all

    def _run_concurrent(self, case: Case, rounds: int) -> Ran:
        doubt = Doubt("case", is_core=self._library is None)
        segments = max(len(case.iovec), *(len(call.iovec) for call in case.concurrent))
        while True:
            past = self.past()
            data = thread_wire.pack(case, self._flags, rounds, self.restarts)
            answer, seen = self._ask(
                Request(data, parts=1, segments=segments),
                lambda answer: [thread_wire.unpack(answer.data, self._process.memory.log, case)],
            )
            match answer:
                case Reply():
                    self.history.append(case)
                    self._renew_if_changed(answer, also=bool(seen[0].pages_end))
                    return Ran(case, seen[0], past)
                case End():
                    ran = Ran(case, thread_wire.unfinished(answer, self._process.memory.log, case), past)
                    self.renew()
                    if not doubt.is_to_be_made_again(answer, is_first=not past.n):
                        return ran

    def _ask(self, request: Request, unpack: Callable[[Reply | End], list[T]]) -> tuple[Reply | End, list[T]]:
        """The answer to a request, and what was finished of its parts, as far as that is believed. A worker whose reply
        cannot be read, or holds nothing, is ended."""
        answer = self._asker.ask(request)
        finished: list[T] = []
        is_damaged = isinstance(answer, End) and answer.kind.damage
        if not is_damaged and answer.progress.finished <= request.parts:
            with contextlib.suppress(wire.DamageError):
                finished = unpack(answer)
        if isinstance(answer, Reply) and not finished:
            answer = self._asker.give_up(Kind.FORGED)
        return answer, finished

    def _renew_if_changed(self, reply: Reply, *, also: bool) -> None:
        """Go on in a fresh process if this one is not what it was: what a subject did to it is not undone."""
        if also or reply.changed or reply.progress.changes or self._asker.excess():
            self.renew()
