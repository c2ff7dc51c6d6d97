"""A subject's worker: cases go out, observations come home, whatever the subject does to its process."""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from msgspec.structs import replace

from vfio_verify import thread_wire, wire
from vfio_verify.case import PAGE, Action, Call, Case, Fault, Fork
from vfio_verify.errors import HarnessError, UnrealError
from vfio_verify.observation import EVENT, STEPS, Event, Observation, StepSeen
from vfio_verify.process import (
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
from vfio_verify.sandbox import Confinement, Parts

T = TypeVar("T")

_NOT_TAKEN_AWAY = ("sealed", "seccomp", "hugetlb")
"""Kernel faults that stay with the process."""
_SHOWN_EVENTS = 4096
_UNREADABLE = (errno.EBADMSG, errno.ENOBUFS)
_ROUNDS = 120
"""In which calls are made at once, each with another plan of who goes on when."""


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
        parts: Parts = Parts.ALL,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.history: list[tuple[Case, Sequence[Fault]]] = []
        """What was called in the present process, in order."""
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

    def renew(self) -> None:
        """Go on in a fresh process."""
        self.history.clear()
        self._process.renew()

    def _restart(self) -> None:
        """The same where the last one has ended."""
        self.history.clear()
        self._process.restart()

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
        """One observation for each fault plan, on the layout of `case`; without plans, for the case's own plan.

        What the case says was called earlier is called first. A faultless success is followed by a second call, or
        by the case's sequence if it has one: then the steps are in the observation.
        After `max_hangs` calls that did not return, the remaining plans are left out. A case with calls alongside is
        run without faults, for so many rounds; there is one observation of them all.
        """
        for before in case.earlier:
            self.run(before)
        if case.alongside:
            return [self._run_at_once(case, rounds)]
        if plans is None:
            plans = (case.fault_plan,)
        if case.sequence:
            return [self._run_sequence(case.with_faults(*plan)) for plan in plans]
        observations = self._run_plans(case, plans, max_hangs)
        if len(plans) > 1 and any(seen.harness_changes for seen in observations):
            # Something that is not the subject's was changed, by system calls of its own. By which run?
            self.renew()
            observations = [seen for plan in plans for seen in self._run_plans(case, [plan], max_hangs)]
        return observations

    def _run_plans(self, case: Case, plans: Sequence[Sequence[Fault]], max_hangs: int) -> list[Observation]:
        flags = self._flags | wire.TWICE
        self._process.kernel_faulty = case.kernel_fault is not None
        observations: list[Observation] = []
        strikes = 0
        alone = False
        while len(observations) < len(plans) and max_hangs > 0:
            rest = plans[len(observations) :][: 1 if alone else None]
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
            self.history += [(case, plan) for plan in rest[: len(finished)]]
            fresh = fresh and not finished
            observations += finished
            if finished:
                strikes = 0
            if ended is None:
                lasting = case.kernel_fault is not None and case.kernel_fault.kind in _NOT_TAKEN_AWAY
                changed = lasting or self._process.changed or progress.changes or self._process.takes_too_much()
                if changed or any(seen.pages_end != seen.pages_before for seen in finished):
                    self.renew()  # what the subject did to its process is not undone
                continue
            if ended == SUSPECTED:
                self._restart()
                continue
            last = self._unfinished(progress, ended)
            self._restart()
            certain = progress.in_subject and ended not in DAMAGE and ended != REFUSED
            earlier = not fresh or ended in (PARENT_ENDED, PARENT_STOPPED, REFUSED)
            if not certain and not strikes and (earlier or self._library is None):
                strikes = 1  # the damage may be an earlier run's, or not of this check: once more in a fresh process
            elif ended == REFUSED:
                raise self._refusal("case")
            elif not certain and self._library is None:
                raise HarnessError(f"the world itself fails: {last.death}")
            else:
                strikes = 0
                max_hangs -= ended in (HANG, STOPPED, TOO_MUCH)
                observations.append(last)
        return observations

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

    def _run_sequence(self, case: Case) -> Observation:
        actions = (Call(case.iovec, case.total_size, case.fault_plan), *case.sequence)
        played = self.play(case, actions, last=True)
        if played.outside:
            played = self.play(case, actions, last=True)  # the damage may be an earlier run's
            if played.outside and self._library is None:
                raise HarnessError("the world itself fails in the middle of a sequence")
        if not played.ended:
            self.history.append((case, case.fault_plan))
            if played.harness_changes or self._process.changed or not _is_restored(played.steps):
                self.renew()
        first = played.steps[0].call
        assert first is not None  # it was sent as one
        return replace(first, steps=tuple(played.steps), harness_changes=played.harness_changes)

    def play(self, world: Case | None, actions: Sequence[Action], *, last: bool) -> Played:
        """Do these actions in one world, whose mappings live on until they are ended, or the world is.

        A world begins with the layout of `world`, goes on with None, and ends after the `last` actions, or when another
        case is run.
        """
        steps: list[StepSeen] = []
        changes = 0
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

    def _run_at_once(self, case: Case, rounds: int, *, again: bool = False) -> Observation:
        ended = self._process.ask(thread_wire.pack(case, self._flags, rounds, self._process.restarts))
        progress = self._process.progress()
        if ended is None:
            try:
                seen = thread_wire.unpack(self._process.replies(), case)
            except wire.DamageError:
                ended = self._process.give_up(FORGED)
            else:
                if progress.changes or seen.pages_end or self._process.changed or self._process.takes_too_much():
                    self.renew()
                return seen
        seen = thread_wire.unfinished(self._process.replies(), case, self._process.death(progress, ended))
        self._restart()
        if ended == REFUSED:
            raise self._refusal("case")
        if (not progress.in_subject or ended == SUSPECTED) and not again:
            return self._run_at_once(case, rounds, again=True)  # the damage may be an earlier run's
        if not progress.in_subject and self._library is None:
            raise HarnessError(f"the world itself fails: {seen.death}")
        return seen

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
