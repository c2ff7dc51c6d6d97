"""The process in which a subject runs, as the parent sees it: sent cases, watched, killed, replaced.

The parent never forks: it starts one small Python process, which forks workers in C (pyx/world/serve.c). A request
lies in shared memory before the worker is told of it, so the case is known whatever the subject does to its process.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import mmap
import operator
import os
import secrets
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from msgspec.structs import replace

import vfio_verify
from vfio_verify import thread_wire, wire
from vfio_verify.case import PAGE, Action, Call, Case, Fault
from vfio_verify.errors import HarnessError, InputError, NotPermittedError, UnrealError, starting
from vfio_verify.observation import EVENT, STEPS, Death, Event, Observation, StepSeen
from vfio_verify.sandbox import Confinement, Parts, readable_by_subject
from vfio_verify.words import death_text

T = TypeVar("T")

_PROGRESS = struct.Struct("=12Q")
_NOTICE = struct.Struct("=2q")
_STARTED, _ENDED, _CONFINED = 1, 2, 3
_NOT_SET_UP = -3
_NOT_TAKEN_AWAY = ("sealed", "seccomp", "hugetlb")
"""Kernel faults that stay with the process."""
_PROGRESS_BYTES = 4096
_NOTE_BYTES = 936
_REQUEST_BYTES = 16 << 20
_REPLY_BYTES = 32 << 20
_START_SECONDS = 20.0
_TICK_SECONDS = 0.2
_SOON_SECONDS = 0.0005
_SHOWN_EVENTS = 4096
_NEAR_NULL = 1 << 16
_END_SECONDS = 10.0
_CHANGED, _BLIND_BIT = 1, 2  # enum vv_state in pyx/world/internal.h
_UNREADABLE = (errno.EBADMSG, errno.ENOBUFS)
_UNABLE_TO_ANSWER = 4  # VV_UNABLE_TO_ANSWER in pyx/world/serve.c
_SWEEPS = 50

_HANG, _STOPPED, _REFUSED, _FORGED, _BLIND, _PARENT_ENDED, _PARENT_STOPPED, _TOO_MUCH = range(-1, -9, -1)
"""Ends of a worker that no wait status tells."""

_DAMAGE = {
    _FORGED: "its memory or its channel holds what no worker writes",
    _BLIND: "descriptors that are not the subject's are closed or replaced",
    _PARENT_ENDED: "the process that started it is ended",
    _PARENT_STOPPED: "the process that started it is stopped",
}
_MARK = "VFIO_VERIFY_WORKER"
"""In the environment of all processes of one worker: whatever becomes of them, they can be found and ended."""

_MEMORY_BYTES, _THREADS = 2 << 30, 256
_ROUNDS = 120
"""In which calls are made at once, each with another plan of who goes on when."""
_SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "VFIO_VERIFY_SANITIZER_REPORTS")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LD_PRELOAD", *_SANITIZERS)
"""What a worker keeps of the environment: what loading needs, and no secrets."""

_BOOT = """
import mmap, sys
sys.path.insert(0, sys.argv[1])
from vfio_verify import _world
control, data, memory, requests, replies = map(int, sys.argv[2:7])
shared = mmap.mmap(memory, 4096 + requests + replies)
_world.confine(int(sys.argv[8]), [path.encode("utf-8", "surrogateescape") for path in sys.argv[9:]])
_world.serve(control, data, shared, requests, replies, sys.argv[7].encode("utf-8", "surrogateescape"))
"""


class _Progress(NamedTuple):
    """What the worker last said of itself; ``struct vv_progress`` in pyx/world/internal.h."""

    pid: int
    plan: int
    finished: int
    reply_bytes: int
    in_subject: int
    signal: int
    signal_address: int
    n_events: int
    reservation: int
    iov_end: int
    changes: int
    note_bytes: int


class Played(NamedTuple):
    """What was seen of actions in one world, as far as the process lived. `outside`: it ended, and in no call."""

    steps: list[StepSeen]
    outside: bool = False
    harness_changes: int = 0

    @property
    def ended(self) -> bool:
        """Did the process end in the last step?"""
        return bool(self.steps) and (call := self.steps[-1].call) is not None and call.death is not None


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here never hear Ctrl-C, SIGTERM or SIGHUP, which may reach a whole process group: the first
    process answers them, and ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Patience:
    """How long a call may take: processor time, or sleep, since the worker was last seen to get on."""

    def __init__(self, cpu_seconds: float, sleep_seconds: float) -> None:
        self._cpu_seconds, self._sleep_seconds = cpu_seconds, sleep_seconds
        self._seen: object = None
        self._used = self._slept = 0.0
        self._stops = 0

    def end(self, at: object, state: str, cpu: float) -> int | None:
        """One more tick, in which the worker was `at` some place: `_HANG`, `_STOPPED`, or None."""
        if self._seen != at:
            self._seen, self._used, self._slept = at, cpu, 0.0
        self._slept = self._slept + _TICK_SECONDS if state in "STtD" else 0.0
        # In one tick it may have been stopped by someone who lets it go on.
        self._stops = self._stops + 1 if state == "T" else 0
        if self._stops > 1:
            return _STOPPED
        return _HANG if cpu - self._used >= self._cpu_seconds or self._slept >= self._sleep_seconds else None


def _is_restored(steps: Sequence[StepSeen]) -> bool:
    """Has the process as many pages as before the first step, once what is left of the mappings is unmapped?"""
    first, last = steps[0].call, steps[-1]
    sizes = {seen.call: seen.runs[-1].end if seen.runs else 0 for seen in last.mappings}
    return first is None or last.pages - sum(sizes.values()) // PAGE == first.pages_before


def _state(pid: int) -> str:
    """A process's state as in proc(5); X if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class Worker:
    """A subject's process. `library` is its shared object; None is the core. A context manager.

    A call hangs that takes `cpu_seconds` of processor time, or sleeps for `sleep_seconds`. A process that only waits
    for a processor does neither: a loaded machine is slow, and not wrong. With a sandbox, one that takes more than
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
        memory_bytes: int = _MEMORY_BYTES,
    ) -> None:
        self.restarts = 0
        self.confinement = Confinement()
        """What of the sandbox is in force; `parts` says what is asked for."""
        self._parts, self._memory_bytes = parts, memory_bytes
        self._kernel_faulty = False
        self._looked = 0.0
        self._excess = ""
        self.history: list[tuple[Case, Sequence[Fault]]] = []
        """What was called in the present process, in order."""
        self._cpu_seconds, self._sleep_seconds = cpu_seconds, sleep_seconds
        self._flags = wire.PARSE_MAPS if parse_maps else 0
        self._library = library
        self._pid = self._errno = 0
        self._changed = self._lost = False
        self._resources = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # ---- life --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        keep = self._resources.enter_context
        self._mark = f"{_MARK}={os.getpid()}-{secrets.token_hex(8)}"
        self._lost = False
        self._errors = keep(tempfile.TemporaryFile())  # noqa: SIM115  # the stack of resources closes it
        size = _PROGRESS_BYTES + _REQUEST_BYTES + _REPLY_BYTES
        memory = os.memfd_create("vfio-verify")
        try:
            os.ftruncate(memory, size)
            self._shared = mmap.mmap(memory, size)
            self._view = memoryview(self._shared)
            self._resources.callback(self._release_memory)
            control, data = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
            self._control, self._data = keep(control[0]), keep(data[0])
            with control[1], data[1]:
                fds = (control[1].fileno(), data[1].fileno(), memory)
                with starting("a process for the subject"):
                    self._process = self._spawn(fds)
        finally:
            os.close(memory)
        self._resources.callback(self._end_process)
        self._expect_start()

    def _spawn(self, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        arguments = (*map(str, fds), str(_REQUEST_BYTES), str(_REPLY_BYTES), str(self._library or ""))
        readable = readable_by_subject(self._library) if self._parts else ()
        arguments = (*arguments, str(int(self._parts)), *map(str, readable))
        with deaf_to_interrupts():
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(vfio_verify.__file__).parent.parent), *arguments],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        name, _, value = self._mark.partition("=")
        return {
            **{kept: os.environ[kept] for kept in _KEPT if kept in os.environ},
            # The stacks of threads that have ended would be pages that a call leaves behind.
            "GLIBC_TUNABLES": "glibc.pthread.stack_cache_size=0",
            name: value,
        }

    def _release_memory(self) -> None:
        # An exception on its way out may hold parts of the view by its traceback; they end with it.
        with contextlib.suppress(BufferError):
            self._view.release()
            self._shared.close()

    def _end_process(self) -> None:
        self._kill()
        self._control.close()  # tells the parent of workers to end too
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._lost else 1.0)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            self._sweep()

    def _sweep(self) -> None:
        """End what the worker's parent did not live to end."""
        mark = self._mark.encode()
        for _ in range(_SWEEPS):
            found = False
            for environment in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if mark in environment.read_bytes():
                        os.kill(int(environment.parent.name), signal.SIGKILL)
                        found = True
            if not found:
                return

    def _expect_start(self) -> None:
        """Wait for a fresh worker's greeting. Raises InputError when the subject cannot be loaded."""
        self._pid = 0
        told = False  # of its confinement; what comes later may be the subject's own words
        end = time.monotonic() + _START_SECONDS
        patience = _Patience(self._cpu_seconds, self._sleep_seconds)
        while (left := end - time.monotonic()) > 0:
            ready = self._wait(min(left, _TICK_SECONDS))
            if self._data in ready and self._pid:
                notice = self._notice(self._data)
                if notice is not None and notice[0] == _CONFINED and not told:
                    self.confinement, told = Confinement.unpack(notice[1]), True
                    continue
                if notice is not None and notice[0] == _STARTED:
                    return
                time.sleep(0 if notice else _TICK_SECONDS)  # a process that ends closes this before it has ended
                why = _DAMAGE.get(self._parent_end() or 0) or self._note() or "no reason given"
                raise InputError(f"the subject cannot be loaded: {why}")
            if self._control in ready:
                kind, value = self._notice(self._control) or (0, 0)
                if kind == _STARTED:
                    self._pid = value
                elif kind == _ENDED:
                    death = self._death(self._progress(), value)
                    raise InputError(f"the subject ends its process while it is loaded: {death_text(death)}")
                else:
                    self._lost = True
                    begun = self._pid or self._progress().pid  # it may end before it tells of its child
                    if begun and self._library is not None:
                        raise InputError(f"the subject cannot be loaded: {_DAMAGE[_PARENT_ENDED]}")
                    raise HarnessError(f"the worker's parent is gone{self._complaint()}")
            if self._pid and self._library is not None and patience.end(0, *self._process_state()):
                raise InputError("the subject does not return while it is loaded")
        raise HarnessError(f"no worker starts within {_START_SECONDS:.0f} seconds{self._complaint()}")

    def close(self) -> None:
        """End the worker and its parent. May be called again."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- running cases -------------------------------------------------------------------------------------

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
        self._kernel_faulty = case.kernel_fault is not None
        observations: list[Observation] = []
        strikes = 0
        alone = False
        while len(observations) < len(plans) and max_hangs > 0:
            rest = plans[len(observations) :][: 1 if alone else None]
            fresh = not self.history
            ended = self._ask(wire.pack_request(case, rest, flags))
            progress = self._progress()
            finished = self._unpacked(progress, len(rest), functools.partial(self._observations, progress.changes))
            if finished is None or (ended is None and not finished):
                finished, ended = [], self._give_up(_FORGED) if ended is None else ended
            if ended in _DAMAGE:
                finished = []  # nothing of it is believed
            mixed = self._changed and len(finished) > 1 and not finished[-1].left
            if len(rest) > 1 and (mixed or ended in _DAMAGE):
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
                changed = lasting or self._changed or progress.changes or self._takes_too_much()
                if changed or any(seen.pages_end != seen.pages_before for seen in finished):
                    self.renew()  # what the subject did to its process is not undone
                continue
            last = self._unfinished(progress, ended)
            self._restart()
            certain = progress.in_subject and ended not in _DAMAGE and ended != _REFUSED
            earlier = not fresh or ended in (_PARENT_ENDED, _PARENT_STOPPED, _REFUSED)
            if not certain and not strikes and (earlier or self._library is None):
                strikes = 1  # the damage may be an earlier run's, or not of this check: once more in a fresh process
            elif ended == _REFUSED:
                raise self._refusal("case")
            elif not certain and self._library is None:
                raise HarnessError(f"the world itself fails: {last.death}")
            else:
                strikes = 0
                max_hangs -= ended in (_HANG, _STOPPED)
                observations.append(last)
        return observations

    def _unpacked(self, progress: _Progress, asked: int, unpack: Callable[[int], list[T]]) -> list[T] | None:
        """What was finished of so much, or None if the reply is not what a worker writes."""
        if progress.finished > asked:
            return None
        try:
            return unpack(progress.finished)
        except wire.DamageError:
            return None

    def _observations(self, changes: int, finished: int) -> list[Observation]:
        return wire.unpack_reply(self._replies(), finished, changes)

    def _steps(self, asked: Sequence[Action], finished: int) -> list[StepSeen]:
        return wire.unpack_session(self._replies(), asked[:finished])

    def _run_sequence(self, case: Case) -> Observation:
        actions = (Call(case.iovec, case.total_size, case.fault_plan), *case.sequence)
        played = self.play(case, actions, last=True)
        if played.outside:
            played = self.play(case, actions, last=True)  # the damage may be an earlier run's
            if played.outside and self._library is None:
                raise HarnessError("the world itself fails in the middle of a sequence")
        if not played.ended:
            self.history.append((case, case.fault_plan))
            if played.harness_changes or self._changed or not _is_restored(played.steps):
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
            ended = self._ask(wire.pack_session(world, left, self._flags, last=last))
            progress = self._progress()
            more = self._unpacked(progress, len(left), functools.partial(self._steps, left))
            if more is None or (ended is None and not more):
                more, ended = [], self._give_up(_FORGED) if ended is None else ended
            if ended == _REFUSED:
                self._restart()
                raise self._refusal("sequence")
            steps += [] if ended in _DAMAGE else more
            if ended is not None:
                steps.append(StepSeen(self._unfinished(progress, ended)))
                self._restart()
                return Played(steps, outside=not progress.in_subject)
            changes += progress.changes
            if len(steps) >= len(actions):
                return Played(steps, harness_changes=changes)
            world = None  # the reply had no room for all

    def _run_at_once(self, case: Case, rounds: int, *, again: bool = False) -> Observation:
        ended = self._ask(thread_wire.pack(case, self._flags, rounds, self.restarts))
        progress = self._progress()
        if ended is None:
            try:
                seen = thread_wire.unpack(self._replies(), case)
            except wire.DamageError:
                ended = self._give_up(_FORGED)
            else:
                if progress.changes or seen.pages_end or self._changed or self._takes_too_much():
                    self.renew()
                return seen
        seen = thread_wire.unfinished(self._replies(), case, self._death(progress, ended))
        self._restart()
        if ended == _REFUSED:
            raise self._refusal("case")
        if not progress.in_subject and not again:
            return self._run_at_once(case, rounds, again=True)  # the damage may be an earlier run's
        if not progress.in_subject and self._library is None:
            raise HarnessError(f"the world itself fails: {seen.death}")
        return seen

    def _ask(self, request: bytes) -> int | None:
        """Send a request, and wait for the reply as `_watch` does."""
        if len(request) > _REQUEST_BYTES:
            raise HarnessError(f"a request of {len(request)} bytes is too large")
        self._changed = False
        self._view[_PROGRESS_BYTES : _PROGRESS_BYTES + len(request)] = request
        self._view[8 : _PROGRESS.size] = bytes(_PROGRESS.size - 8)  # all but the pid
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side is gone, as will be seen
            self._data.send(struct.pack("=Q", len(request)))
        return self._watch()

    def _watch(self) -> int | None:
        """Wait for the reply: None, or the wait status of a worker that ended, or why it was ended (`_HANG`...)."""
        patience = _Patience(self._cpu_seconds, self._sleep_seconds)
        while True:
            ready = self._wait(_TICK_SECONDS)
            lost = self._settled_parent_end() if self._data in ready else self._parent_end()
            if lost is not None:
                return self._give_up(lost)
            if self._data in ready:
                ended = self._answer()
                return None if ended is None else self._give_up(ended)
            if self._control in ready:
                notice = self._notice(self._control)
                return self._give_up(_PARENT_ENDED) if notice is None else self._status(notice[1])
            progress = self._progress()
            ended = patience.end((progress.plan, progress.finished), *self._process_state())
            if ended is None and self._takes_too_much():
                ended = _TOO_MUCH
            if ended is not None:
                return self._give_up(ended)

    def _refusal(self, what: str) -> HarnessError:
        """Why a request was refused before the subject was called: by the machine, unless it cannot be read."""
        kind = HarnessError if self._errno in _UNREADABLE else UnrealError
        return kind(f"the world cannot make the {what} real: {os.strerror(self._errno)}")

    def _status(self, status: int) -> int:
        """A worker's wait status, or what it says by it."""
        unable = os.WIFEXITED(status) and os.WEXITSTATUS(status) == _UNABLE_TO_ANSWER
        return _BLIND if unable and not self._progress().in_subject else status

    def _answer(self) -> int | None:
        """What the worker says at the end of a request: None, or why it cannot be kept."""
        notice = self._notice(self._data)
        if notice is None:
            return _FORGED
        kind, value = notice
        written = self._progress().reply_bytes
        if kind == _NOT_SET_UP and not written and self._kernel_faulty:
            raise NotPermittedError(f"the kernel fault cannot be set up: {os.strerror(value & 0xFFF)}")
        if kind < 0 and not written:  # before the subject was called
            self._errno = value & 0xFFF
            return _REFUSED
        if kind != written or not 0 <= value <= _CHANGED | _BLIND_BIT:
            return _FORGED
        if value & _BLIND_BIT:
            return _BLIND
        self._changed = bool(value & _CHANGED)
        return None

    def _parent_end(self) -> int | None:
        """Was the worker's parent ended or stopped? It does neither by itself."""
        try:
            options = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            status = os.waitid(os.P_PID, self._process.pid, options)
        except ChildProcessError:
            return _PARENT_ENDED
        if status is None:
            return None
        return _PARENT_STOPPED if status.si_code == os.CLD_STOPPED else _PARENT_ENDED

    def _settled_parent_end(self) -> int | None:
        """As `_parent_end`, with all that the subject did before the worker answered.

        A signal takes effect later than it is sent, but what it is sent to wakes at once, and this process sleeps.
        """
        lost = self._parent_end()
        if lost is None and not self._may_signal():
            return None
        end = time.monotonic() + _TICK_SECONDS
        while lost is None and time.monotonic() < end and _state(self._process.pid) != "S":
            time.sleep(_SOON_SECONDS)
            lost = self._parent_end()
        return lost

    def _may_signal(self) -> bool:
        """Could the subject send signals to other processes?"""
        filtered = Parts.SECCOMP in self._parts and not self.confinement.no_seccomp
        return self._library is not None and not filtered

    def _give_up(self, why: int) -> int:
        """End the worker; `why` is the answer."""
        if why in (_PARENT_ENDED, _PARENT_STOPPED):
            self._lost = True
        self._kill()
        self._expect_end()
        return why

    def _takes_too_much(self) -> bool:
        """Does the worker hold more memory, or more threads, than a subject can need? Looked at now and then."""
        if not self._parts or time.monotonic() - self._looked < _TICK_SECONDS / 2:
            return False
        self._looked = time.monotonic()
        process = Path(f"/proc/{self._pid}")
        try:
            threads = int((process / "stat").read_text().rpartition(")")[2].split()[17])
            memory = int((process / "statm").read_text().split()[1]) * PAGE
            # What was written to a memfd and is not mapped; what is mapped counts twice, which does no harm.
            files = {(s.st_dev, s.st_ino): s for s in (fd.stat() for fd in (process / "fd").iterdir())}
            memory += sum(s.st_blocks * 512 for s in files.values() if stat.S_ISREG(s.st_mode))
        except OSError:
            return False  # it has ended, or closes what is looked at
        self._excess = ""
        if memory > self._memory_bytes:
            self._excess = f"takes more than {self._memory_bytes / (1 << 30):g} GiB of memory"
        elif threads > _THREADS:
            self._excess = f"starts more than {_THREADS} threads"
        return bool(self._excess)

    def _process_state(self) -> tuple[str, float]:
        """The worker's state as in proc(5), and the processor time it has used, in seconds."""
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "R", 0.0  # it has ended, and the notice is on its way
        return self._busiest(fields[0]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _busiest(self, state: str) -> str:
        """The state of the worker's first thread; R where that waits for others, and one of them does not sleep."""
        if state == "S":
            for task in Path(f"/proc/{self._pid}/task").glob("*/stat"):
                with contextlib.suppress(OSError):
                    if task.read_text().rpartition(")")[2].split()[0] == "R":
                        return "R"
        return state

    def _unfinished(self, progress: _Progress, ended: int) -> Observation:
        """What is known of the run in which a worker ended."""
        at = progress.reply_bytes + wire.RECORD_BYTES
        events = bytes(self._replies()[at : at + min(progress.n_events, _SHOWN_EVENTS) * EVENT.size])
        events = events[: len(events) // EVENT.size * EVENT.size]
        # The subject may have written there: what cannot be a step ends the trace.
        trace = list(itertools.takewhile(lambda e: e.step < len(STEPS), map(Event._make, EVENT.iter_unpack(events))))
        if ended in _DAMAGE:
            trace = []
        events = events[: len(trace) * EVENT.size]
        head = wire.unpack_head(self._replies())
        return Observation(
            mapped=False,
            base=progress.reservation,
            events=events,
            flags_union=functools.reduce(operator.or_, (event.flags for event in trace), 0),
            counts=tuple(sum(event.step == step for event in trace) for step in range(len(STEPS))),
            death=self._death(progress, ended),
            block_hosts=head.hosts,
            device_fds=head.fds,
        )

    def _death(self, progress: _Progress, ended: int) -> Death:
        if ended < 0:
            how = {_HANG: "hang", _STOPPED: "stop", _TOO_MUCH: "excess"}.get(ended, "damage")
            return Death(how, note=self._excess if how == "excess" else _DAMAGE.get(ended, ""))
        if not os.WIFSIGNALED(ended):
            return Death("exit", status=os.waitstatus_to_exitcode(ended))
        number = os.WTERMSIG(ended)
        if number == signal.SIGABRT and (note := self._note()):
            return Death("abort", signal=number, note=note)
        if progress.signal != number:
            return Death("signal", signal=number)
        return Death("signal", signal=number, note=self._address_text(progress))

    def _address_text(self, progress: _Progress) -> str:
        """Where a signal came from, as far as it is the same in every run."""
        address = progress.signal_address
        if address == wire.NONE:
            return "at no valid address: an uninitialised pointer?"
        if address < _NEAR_NULL:
            return f"at NULL + {address:#x}" if address else "at NULL"
        if 0 <= address - progress.iov_end < PAGE:
            return "just past the end of the iovec"
        hosts = wire.unpack_head(self._replies()).hosts
        if any(host <= address < host + (1 << 40) for host in hosts):
            return "in or near a RAM block"
        return "elsewhere"

    def renew(self) -> None:
        """Go on in a fresh process."""
        self._kill()
        self._expect_end()
        self._restart()

    def _restart(self) -> None:
        """Have the next worker started; the last one has ended, and what it forked with it."""
        self.restarts += 1
        self.history.clear()
        if not self._lost:
            try:
                self._drain()
                self._control.send(b"g")
                self._expect_start()
                return
            except OSError:
                self._lost = True
            except HarnessError:
                if not self._lost:
                    raise
        self._resources.close()
        self._start()

    def _drain(self) -> None:
        """Forget what the last worker may still have said."""
        self._data.setblocking(False)
        try:
            with contextlib.suppress(BlockingIOError):
                while self._data.recv(64):
                    pass
        finally:
            self._data.setblocking(True)

    def _expect_end(self) -> None:
        """Wait until the worker's parent tells that the worker has ended, and all that it forked."""
        if self._lost:
            return
        end = time.monotonic() + _END_SECONDS
        while (left := end - time.monotonic()) > 0:
            if self._parent_end() is not None:
                break
            if self._control in select.select([self._control], [], [], min(left, _TICK_SECONDS))[0]:
                notice = self._notice(self._control)
                if notice is None:
                    break
                if notice[0] == _ENDED:
                    return
        self._lost = True

    # ---- watching --------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> list[socket.socket]:
        return select.select([self._control, self._data], [], [], seconds)[0]

    def _notice(self, source: socket.socket) -> tuple[int, int] | None:
        """The next notice, or None: the other side is gone, or says what it never would."""
        try:
            message = source.recv(64)
        except ConnectionResetError:
            return None
        if len(message) != _NOTICE.size:
            return None
        kind, value = _NOTICE.unpack(message)
        return kind, value

    def _progress(self) -> _Progress:
        return _Progress._make(_PROGRESS.unpack_from(self._view))

    def _replies(self) -> memoryview:
        return self._view[_PROGRESS_BYTES + _REQUEST_BYTES :]

    def _note(self) -> str:
        """Why a worker says that it ended."""
        length = self._progress().note_bytes
        if length > _NOTE_BYTES:
            return ""  # the subject wrote there
        text = bytes(self._view[_PROGRESS.size : _PROGRESS.size + length]).decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def _kill(self) -> None:
        """End the worker and all that it forked."""
        pid = self._pid  # as its parent told: what the worker wrote itself is not believed
        if not pid:
            return  # none has started
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)

    def _complaint(self) -> str:
        """What the worker's parent wrote to its standard error, if anything."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="backslashreplace").strip()
        return f":\n{text}" if text else ""
