"""The process in which a subject runs, as the parent sees it: sent cases, watched, killed, replaced.

The parent never forks: it starts one small Python process, which forks workers in C (pyx/world/serve.c). A request
lies in shared memory before the worker is told of it, so the case is known whatever the subject does to its process.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import operator
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import vfio_verify
from vfio_verify import wire
from vfio_verify.case import PAGE, Case, Fault
from vfio_verify.errors import HarnessError, InputError, NotPermittedError
from vfio_verify.observation import EVENT, STEPS, Death, Event, Observation
from vfio_verify.words import death_text

_PROGRESS = struct.Struct("=12Q")
_NOTICE = struct.Struct("=2q")
_STARTED, _ENDED = 1, 2
_NOT_SET_UP = -3
_NOT_TAKEN_AWAY = ("sealed", "seccomp", "hugetlb")
"""Kernel faults that stay with the process."""
_PROGRESS_BYTES = 4096
_NOTE_BYTES = 936
_REQUEST_BYTES = 16 << 20
_REPLY_BYTES = 32 << 20
_START_SECONDS = 20.0
_TICK_SECONDS = 0.2
_SHOWN_EVENTS = 4096
_NEAR_NULL = 1 << 16
_HANG = -1
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LD_PRELOAD")
"""What a worker keeps of the environment: what loading needs, and no secrets."""

_BOOT = """
import mmap, sys
sys.path.insert(0, sys.argv[1])
from vfio_verify import _world
control, data, memory, requests, replies = map(int, sys.argv[2:7])
shared = mmap.mmap(memory, 4096 + requests + replies)
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


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here never hear Ctrl-C, which reaches a whole process group: the first process answers it,
    and ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A subject's process. `library` is its shared object; None is the core. A context manager.

    A call hangs that takes `cpu_seconds` of processor time, or sleeps for `sleep_seconds`. A process that only waits
    for a processor does neither: a loaded machine is slow, and not wrong.
    """

    def __init__(
        self,
        library: Path | None = None,
        *,
        cpu_seconds: float = 1.0,
        sleep_seconds: float = 3.0,
        parse_maps: bool = False,
    ) -> None:
        self.restarts = 0
        self.history: list[tuple[Case, Sequence[Fault]]] = []
        """What was called in the present process, in order."""
        self._cpu_seconds, self._sleep_seconds = cpu_seconds, sleep_seconds
        self._flags = wire.PARSE_MAPS if parse_maps else 0
        self._library = library
        self._pid = 0
        self._resources = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # ---- life --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        keep = self._resources.enter_context
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
                self._process = self._spawn(fds)
        finally:
            os.close(memory)
        self._resources.callback(self._end_process)
        self._expect_start()

    def _spawn(self, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        arguments = (*map(str, fds), str(_REQUEST_BYTES), str(_REPLY_BYTES), str(self._library or ""))
        with deaf_to_interrupts():
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(vfio_verify.__file__).parent.parent), *arguments],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,
            )

    def _release_memory(self) -> None:
        # An exception on its way out may hold parts of the view by its traceback; they end with it.
        with contextlib.suppress(BufferError):
            self._view.release()
            self._shared.close()

    def _end_process(self) -> None:
        self._kill()
        self._control.close()  # tells the parent of workers to end too
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()

    def _expect_start(self) -> None:
        """Wait for a fresh worker's greeting. Raises InputError when the subject cannot be loaded."""
        self._pid = 0
        end = time.monotonic() + _START_SECONDS
        while (left := end - time.monotonic()) > 0:
            ready = self._wait(left)
            if self._data in ready and self._pid:
                kind, _ = self._notice(self._data)
                if kind == _STARTED:
                    return
                raise InputError(f"the subject cannot be loaded: {self._note() or 'no reason given'}")
            if self._control in ready:
                kind, value = self._notice(self._control)
                if kind == _STARTED:
                    self._pid = value
                else:
                    death = self._death(self._progress(), value)
                    raise InputError(f"the subject ends its process while it is loaded: {death_text(death)}")
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
        self, case: Case, plans: Sequence[Sequence[Fault]] | None = None, *, max_hangs: int = 1 << 30
    ) -> list[Observation]:
        """One observation for each fault plan, on the layout of `case`; without plans, for the case's own plan.

        What the case says was called earlier is called first. A faultless success is followed by a second call.
        After `max_hangs` calls that did not return, the remaining plans are left out.
        """
        for before in case.earlier:
            self.run(before)
        if plans is None:
            plans = (case.fault_plan,)
        observations = self._run_plans(case, plans, max_hangs)
        if len(plans) > 1 and any(seen.harness_changes for seen in observations):
            # Something that is not the subject's was changed, by system calls of its own. By which run?
            self.renew()
            observations = [seen for plan in plans for seen in self._run_plans(case, [plan], max_hangs)]
        return observations

    def _run_plans(self, case: Case, plans: Sequence[Sequence[Fault]], max_hangs: int) -> list[Observation]:
        flags = self._flags | wire.TWICE
        observations: list[Observation] = []
        strikes = 0
        while len(observations) < len(plans) and max_hangs > 0:
            self._send(wire.pack_request(case, plans[len(observations) :], flags))
            ended = self._watch()
            progress = self._progress()
            self.history += [(case, plan) for plan in plans[len(observations) :][: progress.finished]]
            finished = wire.unpack_reply(self._replies(), progress.finished, progress.changes)
            observations += finished
            if finished:
                strikes = 0
            if ended is None:
                lasting = case.kernel_fault is not None and case.kernel_fault.kind in _NOT_TAKEN_AWAY
                if lasting or progress.changes or any(seen.pages_end != seen.pages_before for seen in finished):
                    self.renew()  # what the subject did to its process is not undone
                continue
            last = self._unfinished(progress, ended)
            self._restart()
            if not progress.in_subject and not strikes:
                strikes = 1  # the damage may be an earlier run's: once more in a fresh process
            elif not progress.in_subject and self._library is None:
                raise HarnessError(f"the world itself fails: {last.death}")
            else:
                strikes = 0
                max_hangs -= ended == _HANG
                observations.append(last)
        return observations

    def _send(self, request: bytes) -> None:
        if len(request) > _REQUEST_BYTES:
            raise HarnessError(f"a request of {len(request)} bytes is too large")
        self._view[_PROGRESS_BYTES : _PROGRESS_BYTES + len(request)] = request
        self._view[8 : _PROGRESS.size] = bytes(_PROGRESS.size - 8)  # all but the pid
        self._data.send(struct.pack("=Q", len(request)))

    def _watch(self) -> int | None:
        """Wait for the reply: None, or the wait status of a worker that ended, or `_HANG` for one that was killed."""
        seen: tuple[int, int] | None = None
        used = slept = 0.0
        while True:
            ready = self._wait(_TICK_SECONDS)
            if self._data in ready:
                kind, error = self._notice(self._data)
                if kind == _NOT_SET_UP:
                    raise NotPermittedError(f"the kernel fault cannot be set up: {os.strerror(error)}")
                if kind < 0:
                    raise HarnessError(f"the world cannot make the case real: {os.strerror(error)}")
                return None
            if self._control in ready:
                return self._notice(self._control)[1]
            state, cpu = self._process_state()
            progress = self._progress()
            if seen != (now := (progress.plan, progress.finished)):
                seen, used, slept = now, cpu, 0.0
            slept = slept + _TICK_SECONDS if state in "STtD" else 0.0
            if cpu - used >= self._cpu_seconds or slept >= self._sleep_seconds:
                self._kill()
                self._notice(self._control)
                return _HANG

    def _process_state(self) -> tuple[str, float]:
        """The worker's state as in proc(5), and the processor time it has used, in seconds."""
        try:
            fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "R", 0.0  # it has ended, and the notice is on its way
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _unfinished(self, progress: _Progress, ended: int) -> Observation:
        """What is known of the run in which a worker ended."""
        at = progress.reply_bytes + wire.RECORD_BYTES
        events = bytes(self._replies()[at : at + min(progress.n_events, _SHOWN_EVENTS) * EVENT.size])
        events = events[: len(events) // EVENT.size * EVENT.size]
        # The subject may have written there: what cannot be a step ends the trace.
        trace = list(itertools.takewhile(lambda e: e.step < len(STEPS), map(Event._make, EVENT.iter_unpack(events))))
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
        if ended == _HANG:
            return Death("hang")
        if not os.WIFSIGNALED(ended):
            return Death("exit", status=os.waitstatus_to_exitcode(ended))
        number = os.WTERMSIG(ended)
        if note := self._note():
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
        self._notice(self._control)
        self._restart()

    def _restart(self) -> None:
        self.restarts += 1
        self.history.clear()
        self._data.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while self._data.recv(64):
                pass
        self._data.setblocking(True)
        self._control.send(b"g")
        self._expect_start()

    # ---- watching --------------------------------------------------------------------------------------------

    def _wait(self, seconds: float) -> list[socket.socket]:
        return select.select([self._control, self._data], [], [], seconds)[0]

    def _notice(self, source: socket.socket) -> tuple[int, int]:
        message = source.recv(64)
        if len(message) != _NOTICE.size:
            raise HarnessError(f"the worker's parent is gone{self._complaint()}")
        kind, value = _NOTICE.unpack(message)
        return kind, value

    def _progress(self) -> _Progress:
        return _Progress._make(_PROGRESS.unpack_from(self._view))

    def _replies(self) -> memoryview:
        return self._view[_PROGRESS_BYTES + _REQUEST_BYTES :]

    def _note(self) -> str:
        """Why a worker says that it ended."""
        length = min(self._progress().note_bytes, _NOTE_BYTES)
        return bytes(self._view[_PROGRESS.size : _PROGRESS.size + length]).decode(errors="backslashreplace")

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
