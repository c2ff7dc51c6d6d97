"""A subject's worker: cases go out, observations come home, whatever the subject does to its process."""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from msgspec.structs import replace

from vfio_verify.errors import HarnessError, UnrealError
from vfio_verify.values.case import PAGE, Action, Call, Case, Fault, Fork, Kernel, Variables
from vfio_verify.values.observation import EVENT, STEPS, Event, Observation, StepSeen
from vfio_verify.worker import thread_wire, wire
from vfio_verify.worker.process import (
    DAMAGE,
    FORGED,
    HANG,
    MEMORY_BYTES,
    PARENT_ENDED,
    PARENT_STOPPED,
    REFUSED,
    STOPPED,
    SUSPECTED,
    TOO_MUCH,
    Process,
    Progress,
)
from vfio_verify.worker.sandbox import Confinement, SandboxFeature

T = TypeVar("T")

_NOT_TAKEN_AWAY = ("sealed", "seccomp", "hugetlb")
"""Kernel faults that stay with the process."""
_SHOWN_EVENTS = 4096
_UNREADABLE = (errno.EBADMSG, errno.ENOBUFS)
_HASTE = 0.13
"""Of the time that a call may take, where many calls are known to hang."""
_ROUNDS = 120
"""In which calls are made at once, each with another plan of who goes on when."""


class Past(NamedTuple):
    """What was called in a process before some call: the first `n` of `calls`, to which later ones are added."""

    calls: list[Case]
    n: int

    def cases(self) -> tuple[Case, ...]:
        """Each with its fault plan, in order."""
        return tuple(self.calls[: self.n])


class Ran(NamedTuple):
    """What was seen of a run, and what its process had been called with before."""

    seen: Observation
    past: Past


class Played(NamedTuple):
    """What was seen of actions in one world, as far as the process lived. `outside`: it ended, and in no call."""

    steps: list[StepSeen]
    outside: bool = False
    harness_changes: int = 0

    @property
    def ended(self) -> bool:
        """Did the process end in the last step?"""
        return bool(self.steps) and (call := self.steps[-1].call) is not None and call.death is not None


def _is_restored(steps: Sequence[StepSeen]) -> bool:
    """Has the process as many pages as before the first step, once what is left of the mappings is unmapped?"""
    first, last = steps[0].call, steps[-1]
    sizes = {seen.call: seen.runs[-1].end if seen.runs else 0 for seen in last.mappings}
    return first is None or last.pages - sum(sizes.values()) // PAGE == first.pages_before


def _lasts(case: Case) -> bool:
    """Does its kernel fault stay with the process?"""
    return case.kernel_fault is not None and case.kernel_fault.kind in _NOT_TAKEN_AWAY


def _layout(case: Case) -> tuple[bool, Case]:
    """What is the same for all fault plans of a layout. Is it one call, and no sequence and no concurrent calls?"""
    return not case.sequence and not case.concurrent, case.with_faults()


def _host(case: Case) -> tuple[int, Kernel, Variables]:
    """What a process can rely on as long as it lives: how large pages are, how the kernel answers, and how the subject
    is built."""
    return case.page_size, case.kernel, case.variables


class Worker:
    """A subject's process. `library` is its shared object; None is the core. A context manager.

    A call hangs that takes `cpu_seconds` of processor time, or sleeps for `sleep_seconds`. A process that only waits
    for a processor does neither: a loaded machine is slow, and not wrong. Where starting the process itself takes very
    long, as under emulation, both limits are raised. With a sandbox, one that takes more than
    `memory_bytes`, or starts very many threads, is ended too.
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
        self._flags = wire.PARSE_MAPS if parse_maps else 0
        self._library = library
        self._process = Process(
            library, cpu_seconds=cpu_seconds, sleep_seconds=sleep_seconds, parts=parts, memory_bytes=memory_bytes
        )

    @property
    def restarts(self) -> int:
        """How often a process was replaced."""
        return self._process.restarts

    @property
    def confinement(self) -> Confinement:
        """What of the sandbox is in force; `parts` says what is asked for."""
        return self._process.confinement

    def covered(self) -> bytes:
        """A byte for each place in the subject's library, not 0 where a block of code began that ever ran here."""
        return self._process.covered() if self._library is not None else b""

    def mark_covered(self, places: Iterable[int], *, now: bool) -> None:
        """Let these places be covered, or not."""
        self._process.mark_covered(places, now=now)

    def renew(self) -> None:
        """Go on in a fresh process."""
        self.history = []
        self._process.renew()

    def _restart(self) -> None:
        """The same where the last one has ended."""
        self.history = []
        self._process.restart()

    def hurry(self, *, on: bool) -> None:
        """Wait for a call only a fraction of the usual time. What is then taken for a hang may be none."""
        self._process.haste = _HASTE if on else 1.0

    def close(self) -> None:
        """End the worker and its parent. May be called again."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- running cases ------------------------------------------------------------------------------------------

    def run(
        self,
        case: Case,
        plans: Sequence[Sequence[Fault]] | None = None,
        *,
        max_hangs: int = 1 << 30,
        rounds: int = _ROUNDS,
    ) -> list[Observation]:
        """What `runs` shows, where it does not matter what came before."""
        return [ran.seen for ran in self.runs(case, plans, max_hangs=max_hangs, rounds=rounds)]

    def runs(
        self,
        case: Case,
        plans: Sequence[Sequence[Fault]] | None = None,
        *,
        max_hangs: int = 1 << 30,
        rounds: int = _ROUNDS,
    ) -> list[Ran]:
        """One observation for each fault plan, on the layout of `case`; without plans, for the case's own plan.

        What the case says was called earlier is called first. A faultless success is followed by a second call, or
        by the case's sequence if it has one: then the steps are in the observation.
        After `max_hangs` calls that did not return, the remaining plans are left out. A case with concurrent calls is
        run without faults, for so many rounds; there is one observation of them all.
        """
        first = (*case.earlier, case)[0]
        if self.history and _host(self.history[-1]) != _host(first):
            self.renew()  # what a subject may remember of its host does not change in a process
        self._call_earlier(case.earlier)
        case = replace(case, earlier=()) if case.earlier else case
        if case.concurrent:
            return [self._run_concurrent(case, rounds)]
        if plans is None:
            plans = (case.fault_plan,)
        if case.sequence:
            return [self._run_sequence(case.with_faults(*plan)) for plan in plans]
        ran = self._run_plans(case, plans, max_hangs)
        if len(plans) > 1 and any(one.seen.harness_changes for one in ran):
            # Something that is not the subject's was changed, by system calls of its own. By which run?
            self.renew()
            ran = [one for plan in plans for one in self._run_plans(case, [plan], max_hangs)]
        return ran

    def _call_earlier(self, earlier: Sequence[Case]) -> None:
        """Make calls as they were made when a history was recorded: the fault plans of one layout by one request, and
        all in one process, whatever they leave mapped in it."""
        made = 0
        self.earlier_end = None
        for (is_plain, _), group in itertools.groupby(earlier, key=_layout):
            calls = list(group)
            if is_plain:
                self._call_plans(calls[0], calls, made)
            else:
                for call in calls:
                    self.runs(call)
            made += len(calls)

    def _call_plans(self, layout: Case, calls: Sequence[Case], before: int) -> None:
        """Calls of one layout, of which nothing else is to be known than whether one ends the process. It is not made
        again."""
        self._process.kernel_faulty = layout.kernel_fault is not None
        self._process.segments = len(layout.iovec)
        flags = self._flags | wire.TWICE
        while calls:
            ended = self._process.ask(wire.pack_request(layout, [call.fault_plan for call in calls], flags))
            made = min(self._process.progress().finished, len(calls))
            self.history += calls[:made]
            if ended == SUSPECTED:
                self._restart()
            elif ended is not None or not made:
                self.earlier_end = before + made if self.earlier_end is None else self.earlier_end
                self._restart() if ended is not None else self.renew()
                made += 1
            elif self._process.changed or _lasts(layout):
                self.renew()
            before, calls = before + made, calls[made:]

    def _run_plans(self, case: Case, plans: Sequence[Sequence[Fault]], max_hangs: int) -> list[Ran]:
        flags = self._flags | wire.TWICE
        self._process.kernel_faulty = case.kernel_fault is not None
        self._process.segments = len(case.iovec)
        ran: list[Ran] = []
        strikes = 0
        alone = False
        while len(ran) < len(plans) and max_hangs > 0:
            rest = plans[len(ran) :][: 1 if alone else None]
            fresh = not self.history
            ended = self._process.ask(wire.pack_request(case, rest, flags))
            progress = self._process.progress()
            finished = self._unpacked(progress, len(rest), functools.partial(self._observations, progress))
            if finished is None or (ended is None and not finished):
                finished, ended = [], self._process.give_up(FORGED) if ended is None else ended
            if ended in DAMAGE:
                finished = []  # nothing of it is believed
            mixed = self._process.changed and len(finished) > 1 and not finished[-1].left
            if len(rest) > 1 and (mixed or ended in DAMAGE):
                # Which run did it, and what was true after that? Once more, each in a request of its own.
                alone = True
                self.renew() if ended is None else self._restart()
                continue
            for plan, seen in zip(rest, finished, strict=False):
                ran.append(Ran(seen, self.past()))
                self.history.append(case.with_faults(*plan))
            fresh = fresh and not finished
            if finished:
                strikes = 0
            if ended is None:
                changed = _lasts(case) or self._process.changed or progress.changes or self._process.takes_too_much()
                left = any(seen.pages_end != seen.pages_before for seen in finished)
                if changed or left:
                    self.renew()  # what the subject did to its process is not undone
                continue
            if ended == SUSPECTED:
                self._restart()
                continue
            last = Ran(self._unfinished(progress, ended), self.past())
            self._restart()
            certain = progress.in_subject and ended not in DAMAGE and ended != REFUSED
            earlier = not fresh or ended in (PARENT_ENDED, PARENT_STOPPED, REFUSED)
            if not certain and not strikes and (earlier or self._library is None):
                strikes = 1  # the damage may be an earlier run's, or not of this check: once more in a fresh process
            elif ended == REFUSED:
                raise self._refusal("case")
            elif not certain and self._library is None:
                raise HarnessError(f"the world itself fails: {last.seen.death}")
            else:
                strikes = 0
                max_hangs -= ended in (HANG, STOPPED, TOO_MUCH)
                ran.append(last)
        return ran

    def past(self) -> Past:
        """What was called in the present process until now."""
        return Past(self.history, len(self.history))

    def _unpacked(self, progress: Progress, asked: int, unpack: Callable[[int], list[T]]) -> list[T] | None:
        """What was finished of so much, or None if the reply is not what a worker writes."""
        if progress.finished > asked:
            return None
        try:
            return unpack(progress.finished)
        except wire.DamageError:
            return None

    def _observations(self, progress: Progress, finished: int) -> list[Observation]:
        return wire.unpack_reply(self._process.replies(progress.reply_bytes), finished, progress.changes)

    def _steps(self, progress: Progress, asked: Sequence[Action], finished: int) -> list[StepSeen]:
        return wire.unpack_session(self._process.replies(progress.reply_bytes), asked[:finished])

    def _run_sequence(self, case: Case) -> Ran:
        actions = (Call(case.iovec, case.total_size, case.fault_plan), *case.sequence)
        past = self.past()
        played = self.play(case, actions, last=True)
        if played.outside:
            past = self.past()
            played = self.play(case, actions, last=True)  # the damage may be an earlier run's
            if played.outside and self._library is None:
                raise HarnessError("the world itself fails in the middle of a sequence")
        if not played.ended:
            self.history.append(case)
            if played.harness_changes or self._process.changed or not _is_restored(played.steps):
                self.renew()
        first = played.steps[0].call
        assert first is not None  # it was sent as one
        return Ran(replace(first, steps=tuple(played.steps), harness_changes=played.harness_changes), past)

    def play(self, world: Case | None, actions: Sequence[Action], *, last: bool) -> Played:
        """Do these actions in one world, whose mappings live on until they are ended, or the world is.

        A world begins with the layout of `world`, goes on with None, and ends after the `last` actions, or when another
        case is run.
        """
        steps: list[StepSeen] = []
        changes = 0
        self._process.segments = max([0, *(len(one.iovec) for one in actions if isinstance(one, Call))])
        while True:
            left = actions[len(steps) :]
            forks = sum(isinstance(action, Fork) for action in left)
            ended = self._process.ask(wire.pack_session(world, left, self._flags, last=last), forks=forks)
            progress = self._process.progress()
            more = self._unpacked(progress, len(left), functools.partial(self._steps, progress, left))
            if more is None or (ended is None and not more):
                more, ended = [], self._process.give_up(FORGED) if ended is None else ended
            if ended == REFUSED:
                self._restart()
                raise self._refusal("sequence")
            steps += [] if ended in DAMAGE else more
            if ended is not None:
                steps.append(StepSeen(self._unfinished(progress, ended)))
                self._restart()
                return Played(steps, outside=not progress.in_subject or ended == SUSPECTED)
            changes += progress.changes
            if len(steps) >= len(actions):
                return Played(steps, harness_changes=changes)
            world = None  # the reply had no room for all

    def _run_concurrent(self, case: Case, rounds: int, *, again: bool = False) -> Ran:
        past = self.past()
        self._process.segments = max(len(case.iovec), *(len(call.iovec) for call in case.concurrent))
        ended = self._process.ask(thread_wire.pack(case, self._flags, rounds, self._process.restarts))
        progress = self._process.progress()
        if ended is None:
            try:
                seen = thread_wire.unpack(self._process.replies(), case)
            except wire.DamageError:
                ended = self._process.give_up(FORGED)
            else:
                self.history.append(case)
                if progress.changes or seen.pages_end or self._process.changed or self._process.takes_too_much():
                    self.renew()
                return Ran(seen, past)
        seen = thread_wire.unfinished(self._process.replies(), case, self._process.death(progress, ended))
        self._restart()
        if ended == REFUSED:
            raise self._refusal("case")
        if (not progress.in_subject or ended == SUSPECTED) and not again:
            return self._run_concurrent(case, rounds, again=True)  # the damage may be an earlier run's
        if not progress.in_subject and self._library is None:
            raise HarnessError(f"the world itself fails: {seen.death}")
        return Ran(seen, past)

    def _refusal(self, what: str) -> HarnessError:
        """Why a request was refused before the subject was called: by the machine, unless it cannot be read."""
        kind = HarnessError if self._process.errno in _UNREADABLE else UnrealError
        return kind(f"the world cannot make the {what} real: {os.strerror(self._process.errno)}")

    def _unfinished(self, progress: Progress, ended: int) -> Observation:
        """What is known of the run in which a worker ended."""
        at = progress.reply_bytes + wire.RECORD_BYTES
        reply = self._process.replies(at + min(progress.n_events, _SHOWN_EVENTS) * EVENT.size)
        events = bytes(reply[at:])
        events = events[: len(events) // EVENT.size * EVENT.size]
        # The subject may have written there: what cannot be a step ends the trace.
        trace = list(itertools.takewhile(lambda e: e.step < len(STEPS), map(Event._make, EVENT.iter_unpack(events))))
        if ended in DAMAGE:
            trace = []
        events = events[: len(trace) * EVENT.size]
        head = wire.unpack_head(self._process.replies(wire.HEAD_BYTES))
        return Observation(
            mapped=False,
            base=progress.reservation,
            events=events,
            flags_union=functools.reduce(operator.or_, (event.flags for event in trace), 0),
            counts=tuple(sum(event.step == step for event in trace) for step in range(len(STEPS))),
            death=self._process.death(progress, ended),
            block_hosts=head.hosts,
            device_fds=head.fds,
        )
