"""The process in which a subject runs, as its owner sees it: started, asked, watched, ended, replaced.

The owner never forks: it starts one small Python process, which forks workers in C (pyx/world/serve.c). A request lies
in shared memory before the worker is told of it, so what was asked is known whatever the subject does to its process.

That memory is a sealed memfd, which the owner reads and writes by system calls and does not map: what a worker does to
it, such as cutting it off, could reach the owner of a mapping as a signal. What is read is a copy, which no longer
changes while it is looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

import vfio_verify
from vfio_verify.errors import HarnessError, InputError, NotPermittedError, starting
from vfio_verify.values.case import PAGE
from vfio_verify.values.observation import DEATH_CODES, NOWHERE, Death
from vfio_verify.values.words import death_text
from vfio_verify.worker import usage, wire
from vfio_verify.worker.sandbox import Confinement, SandboxFeature, readable_by_subject
from vfio_verify.worker.usage import stat_fields

_PROGRESS = struct.Struct("=12Q")
_NOTICE = struct.Struct("=2q")
_GRANT = struct.Struct("=qQ")
_STARTED, _ENDED, _CONFINED, _FORKED = 1, 2, 3, 4
_NOT_SET_UP = -3
_PROGRESS_BYTES = 4096
_NOTE_BYTES = 936
_MOST_FRAMES = 24  # VV_FRAMES in pyx/world/internal.h
_PLACES = struct.Struct(f"={4 + _MOST_FRAMES + 1}Q")  # in struct vv_progress, behind the note
_REQUEST_BYTES = 16 << 20
_REPLY_BYTES = 32 << 20
_QUICK_SEGMENTS = 2048
"""Segments for which a call may take as long again: a helper may compare each with each, 65,536 in some seconds."""
_COVERED_BYTES = 1 << 20  # VV_COVERED_BYTES in pyx/world/internal.h
_SHARED_BYTES = _PROGRESS_BYTES + _REQUEST_BYTES + _REPLY_BYTES + _COVERED_BYTES
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Of what is shared with a worker: nobody cuts it off, makes it longer, or seals it against its owner."""
_START_SECONDS = 20.0
_TICK_SECONDS = 0.2
_SOON_SECONDS = 0.0005
_ANSWER_SECONDS = 0.1
_NEAR_NULL = 1 << 16
_END_SECONDS = 10.0
_USUAL_START = 0.05
"""Processor time, in seconds, in which a worker's parent starts at the most on a machine that is not emulated."""
_CHANGED, _BLIND_BIT = 1, 2  # enum vv_state in pyx/world/internal.h
_UNABLE_TO_ANSWER = 4  # VV_UNABLE_TO_ANSWER in pyx/world/serve.c
_SWEEPS = 50

HANG, STOPPED, REFUSED, FORGED, BLIND, PARENT_ENDED, PARENT_STOPPED, TOO_MUCH, SUSPECTED, FORKED = range(-1, -11, -1)
"""Ends of a worker that no wait status tells. One that was `SUSPECTED` to take too much did not: ask again."""

DAMAGE = {
    FORGED: "its memory or its channel holds what no worker writes",
    BLIND: "descriptors that are not the subject's are closed or replaced",
    PARENT_ENDED: "the process that started it is ended",
    PARENT_STOPPED: "the process that started it is stopped",
    FORKED: "it makes a process in the place of one that the check makes of it",
}
_MARK = "VFIO_VERIFY_WORKER"
"""In the environment of all processes of one worker: whatever becomes of them, they can be found and ended."""

MEMORY_BYTES, _THREADS = 2 << 30, 256
_SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "VFIO_VERIFY_SANITIZER_REPORTS")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LD_PRELOAD", *_SANITIZERS)
"""What a worker keeps of the environment: what loading needs, and no secrets."""

_BOOT = """
import mmap, os, sys
sys.path.insert(0, sys.argv[1])
from vfio_verify import _world
control, data, memory, requests, replies = map(int, sys.argv[2:7])
shared = mmap.mmap(memory, 0)
_world.confine(int(sys.argv[8]), [path.encode("utf-8", "surrogateescape") for path in sys.argv[9:]])
try:
    _world.serve(control, data, shared, requests, replies, sys.argv[7].encode("utf-8", "surrogateescape"))
except OSError as error:
    sys.exit(f"{error.strerror}: {os.strerror(error.errno)}")
"""


def either(one: bytes, other: bytes) -> bytes:
    """What is set in one of two maps of bytes."""
    size = max(len(one), len(other))
    return (int.from_bytes(one, "little") | int.from_bytes(other, "little")).to_bytes(size, "little")


class Progress(NamedTuple):
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
        """One more tick, in which the worker was `at` some place: `HANG`, `STOPPED`, or None."""
        if self._seen != at:
            self._seen, self._used, self._slept = at, cpu, 0.0
        self._slept = self._slept + _TICK_SECONDS if state in "STtD" else 0.0
        # In one tick it may have been stopped by someone who lets it go on.
        self._stops = self._stops + 1 if state == "T" else 0
        if self._stops > 1:
            return STOPPED
        return HANG if cpu - self._used >= self._cpu_seconds or self._slept >= self._sleep_seconds else None


class Process:
    """A worker and its parent, which starts the next one when one has ended. `close` ends both.

    `ask` answers None, the wait status of a worker that has ended, or why it was ended (`HANG`...). What was asked for,
    and what came back, is bytes here.
    """

    def __init__(
        self,
        library: Path | None,
        *,
        cpu_seconds: float,
        sleep_seconds: float,
        parts: SandboxFeature,
        memory_bytes: int,
    ) -> None:
        self.restarts = 0
        self.confinement = Confinement()
        """What of the sandbox is in force; `parts` says what is asked for."""
        self.pid = 0
        self.errno = 0
        """Why a request was refused."""
        self.changed = False
        """Does the last request leave the process another one than it was?"""
        self.segments = 0
        """Of the longest iovec of what is asked for: a call may take longer with thousands."""
        self.kernel_faulty = False
        """Does the present request set up a failure of the kernel's own, which may be not permitted?"""
        self.excess = ""
        self.haste = 1.0
        """What of the limits is waited for."""
        self._library, self._parts, self._memory_bytes = library, parts, memory_bytes
        self._cpu_seconds, self._sleep_seconds = cpu_seconds, sleep_seconds
        self._looked = 0.0
        self._shared_before = 0  # by the whole machine, when the worker began
        self._is_suspected = False
        self._granted = 0
        self._covered_before = b""
        # One that is not there is refused when it is loaded.
        is_there = library is not None and library.exists()
        self._code_bytes = min(library.stat().st_size, _COVERED_BYTES) if library is not None and is_there else 0
        self._lost = False
        self._slower = 1.0
        """How many times slower this machine is than those for which the limits are made."""
        self._resources = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # ---- life ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        keep = self._resources.enter_context
        self._mark = f"{_MARK}={os.getpid()}-{secrets.token_hex(8)}"
        self._lost = False
        self._errors = keep(tempfile.TemporaryFile())  # noqa: SIM115  # the stack of resources closes it
        self._memory = os.memfd_create("vfio-verify", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._resources.callback(os.close, self._memory)
        os.ftruncate(self._memory, _SHARED_BYTES)
        fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, _SEALS)
        control, data = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        self._control, self._data = keep(control[0]), keep(data[0])
        # Opened anew: the flags of an open file belong to all who share it, and with O_APPEND a request is not written
        # where it should be.
        theirs = os.open(f"/proc/self/fd/{self._memory}", os.O_RDWR | os.O_CLOEXEC)
        try:
            with control[1], data[1], starting("a process for the subject"):
                self._parent = self._spawn((control[1].fileno(), data[1].fileno(), theirs))
        finally:
            os.close(theirs)
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

    def _end_process(self) -> None:
        self._kill()
        self._control.close()  # tells the parent of workers to end too
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It may have thousands to wait for, which nobody else may do.
            self._parent.wait(0 if self._lost else _END_SECONDS)
        if self._parent.returncode is None:
            self._parent.kill()
            self._parent.wait()
        if self._parent.returncode:
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
        self.pid = 0
        self._shared_before = usage.machine_shared_bytes()
        told = False  # of its confinement; what comes later may be the subject's own words
        end = time.monotonic() + _START_SECONDS
        patience = self._patience_to_load()
        while (left := end - time.monotonic()) > 0:
            ready = self._wait(min(left, _TICK_SECONDS))
            if self._data in ready and self.pid:
                notice = self._notice(self._data)
                if notice is not None and notice[0] == _CONFINED and not told:
                    self.confinement, told = Confinement.unpack(notice[1]), True
                    continue
                if notice is not None and notice[0] == _STARTED:
                    return
                time.sleep(0 if notice else _TICK_SECONDS)  # a process that ends closes this before it has ended
                why = DAMAGE.get(self._parent_end() or 0) or self._note() or "no reason given"
                raise InputError(f"the subject cannot be loaded: {why}")
            if self._control in ready:
                kind, value = self._notice(self._control) or (0, 0)
                if kind == _STARTED:
                    self.pid = value
                    self._compare_machine()
                    patience = self._patience_to_load()
                elif kind == _ENDED:
                    death = self.death(self.progress(), value)
                    raise InputError(f"the subject ends its process while it is loaded: {death_text(death)}")
                else:
                    self._lost = True
                    begun = self.pid or self.progress().pid  # it may end before it tells of its child
                    if begun and self._library is not None:
                        raise InputError(f"the subject cannot be loaded: {DAMAGE[PARENT_ENDED]}")
                    raise HarnessError(f"the worker's parent is gone{self._complaint()}")
            if self.pid and self._library is not None and patience.end(0, *self._process_state()):
                raise InputError("the subject does not return while it is loaded")
        raise HarnessError(f"no worker starts within {_START_SECONDS:.0f} seconds{self._complaint()}")

    def close(self) -> None:
        """End the worker and its parent. May be called again."""
        self._resources.close()

    def renew(self) -> None:
        """Go on in a fresh process."""
        self._kill()
        self._expect_end()
        self.restart()

    def restart(self) -> None:
        """Have the next worker started; the last one has ended, and what it forked with it."""
        self.restarts += 1
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
        self._covered_before = self.covered()  # its memory goes
        self._resources.close()
        self._start()

    # ---- asking -------------------------------------------------------------------------------------------------

    def ask(self, request: bytes, *, forks: int = 0) -> int | None:
        """Send a request in which the world is to fork so often, and wait for the reply as `_watch` does."""
        if len(request) > _REQUEST_BYTES:
            raise HarnessError(f"a request of {len(request)} bytes is too large")
        self.changed = False
        self._write(_PROGRESS_BYTES, request)
        self._write(8, bytes(_PROGRESS.size - 8))  # the progress, all but the pid
        self._write(_PROGRESS.size + _NOTE_BYTES, bytes(_PLACES.size))
        self._grant(forks)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side is gone, as will be seen
            self._data.send(struct.pack("=Q", len(request)))
        return self._watch()

    def _grant(self, forks: int) -> None:
        """Tell the worker's parent how many forks to let through (pyx/world/oversee.c), where it decides on them."""
        overseen = (
            SandboxFeature.SECCOMP in self._parts and not self.confinement.no_seccomp and not self.confinement.no_forks
        )
        if overseen and (forks or self._granted):
            self._granted = forks
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._control.send(_GRANT.pack(_FORKED, forks))

    def _watch(self) -> int | None:
        """Wait for the reply: None, or the wait status of a worker that ended, or why it was ended (`HANG`...)."""
        patience = self._patience()
        while True:
            ready = self._wait(_TICK_SECONDS)
            lost = self._settled_parent_end() if self._data in ready else self._parent_end()
            if lost is not None:
                return self.give_up(lost)
            if self._control in ready and self._tells_of_fork():
                return self.give_up(FORKED)  # told before the answer, which is not believed
            if self._data in ready:
                ended = self._answer()
                return None if ended is None else self.give_up(ended)
            if self._control in ready:
                notice = self._notice(self._control)
                return self.give_up(PARENT_ENDED) if notice is None else self._status(notice[1])
            progress = self.progress()
            ended = patience.end((progress.plan, progress.finished), *self._process_state())
            if ended is None and self.takes_too_much():
                ended = TOO_MUCH
            if ended is not None:
                return self.give_up(ended)

    def _tells_of_fork(self) -> bool:
        """Does the worker's parent say next that one fork more than granted was tried?"""
        with contextlib.suppress(ConnectionResetError):
            message = self._control.recv(64, socket.MSG_PEEK)
            return len(message) == _NOTICE.size and _NOTICE.unpack(message)[0] == _FORKED
        return False

    def _status(self, status: int) -> int:
        """A worker's wait status, or what it says by it."""
        unable = os.WIFEXITED(status) and os.WEXITSTATUS(status) == _UNABLE_TO_ANSWER
        return BLIND if unable and not self.progress().in_subject else status

    def _answer(self) -> int | None:
        """What the worker says at the end of a request: None, or why it cannot be kept."""
        notice = self._notice(self._data)
        if notice is None:
            return FORGED
        kind, value = notice
        written = self.progress().reply_bytes
        if kind == _NOT_SET_UP and not written and self.kernel_faulty:
            raise NotPermittedError(f"the kernel fault cannot be set up: {os.strerror(value & 0xFFF)}")
        if kind < 0 and not written:  # before the subject was called
            self.errno = value & 0xFFF
            return REFUSED
        if kind != written or not 0 <= value <= _CHANGED | _BLIND_BIT:
            return FORGED
        if value & _BLIND_BIT:
            return BLIND
        self.changed = bool(value & _CHANGED)
        return None

    def give_up(self, why: int) -> int:
        """End the worker; `why` is the answer, unless its end shows that it was only suspected."""
        if why == HANG:
            self._ask_where()
        if why in (PARENT_ENDED, PARENT_STOPPED):
            self._lost = True
        shared = usage.machine_shared_bytes() if why == TOO_MUCH and self._is_suspected else None
        self._kill()
        self._expect_end()
        if shared is not None and shared - usage.machine_shared_bytes() < self._memory_bytes // 2:
            return SUSPECTED  # others hold it; they come and go too, and half of it is enough to tell
        return why

    def _ask_where(self) -> None:
        """Have a worker that hangs tell where it is. It may not answer: the signal can be blocked, or another's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGRTMAX)
            end = time.monotonic() + _ANSWER_SECONDS
            while not self._places()[2] and time.monotonic() < end:
                time.sleep(_SOON_SECONDS)

    def _places(self) -> tuple[int, ...]:
        places: tuple[int, ...] = _PLACES.unpack(self._read(_PROGRESS.size + _NOTE_BYTES, _PLACES.size))
        return places

    def death(self, progress: Progress, ended: int) -> Death:
        """How the worker ended, and where its subject's code was then."""
        death = self._death(progress, ended)
        if ended in DAMAGE:
            return death
        *error_at, _, n_frames = (places := self._places())[:4]
        frames = places[4:][: min(n_frames, _MOST_FRAMES)]
        code = DEATH_CODES.get(places[-1], "") if death.how == "abort" else ""
        return replace(death, frames=frames, error_at=tuple(at for at in error_at if at not in (0, NOWHERE)), code=code)

    def _death(self, progress: Progress, ended: int) -> Death:
        if ended < 0:
            how = {HANG: "hang", STOPPED: "stop", TOO_MUCH: "excess"}.get(ended, "damage")
            return Death(how, note=self.excess if how == "excess" else DAMAGE.get(ended, ""))
        if not os.WIFSIGNALED(ended):
            return Death("exit", status=os.waitstatus_to_exitcode(ended))
        number = os.WTERMSIG(ended)
        if number == signal.SIGABRT and (note := self._note()):
            return Death("abort", signal=number, note=note)
        if progress.signal != number:
            return Death("signal", signal=number)
        return Death("signal", signal=number, note=self._address_text(progress))

    def _address_text(self, progress: Progress) -> str:
        """Where a signal came from, as far as it is the same in every run."""
        address = progress.signal_address
        if address == wire.NONE:
            return "at no valid address: an uninitialised pointer?"
        if address < _NEAR_NULL:
            return f"at NULL + {address:#x}" if address else "at NULL"
        if 0 <= address - progress.iov_end < PAGE:
            return "just past the end of the iovec"
        hosts = wire.unpack_head(self.replies(wire.HEAD_BYTES)).hosts
        if any(host <= address < host + (1 << 40) for host in hosts):
            return "in or near a RAM block"
        return "elsewhere"

    def takes_too_much(self) -> bool:
        """Does the worker hold more memory, or more threads, than a subject can need? Looked at now and then."""
        if not self._parts or time.monotonic() - self._looked < _TICK_SECONDS / 2:
            return False
        self._looked = time.monotonic()
        process = Path(f"/proc/{self.pid}")
        try:
            threads, held = usage.threads(process), usage.held_bytes(process)
        except OSError:
            return False  # it has ended, or closes what is looked at
        # Shared memory in no table any more, such as of a memfd that is mapped, closed and never touched: whose it is
        # the kernel tells nobody, but how much the whole machine holds. `give_up` shows whether it was this worker's.
        unseen = usage.machine_shared_bytes() - self._shared_before
        self._is_suspected = held <= self._memory_bytes < unseen
        self.excess = ""
        if max(held, unseen) > self._memory_bytes:
            self.excess = f"takes more than {self._memory_bytes / (1 << 30):g} GiB of memory"
        elif threads > _THREADS:
            self.excess = f"starts more than {_THREADS} threads"
        return bool(self.excess)

    # ---- watching -----------------------------------------------------------------------------------------------

    def _parent_end(self) -> int | None:
        """Was the worker's parent ended or stopped? It does neither by itself."""
        try:
            options = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            status = os.waitid(os.P_PID, self._parent.pid, options)
        except ChildProcessError:
            return PARENT_ENDED
        if status is None:
            return None
        return PARENT_STOPPED if status.si_code == os.CLD_STOPPED else PARENT_ENDED

    def _settled_parent_end(self) -> int | None:
        """As `_parent_end`, with all that the subject did before the worker answered.

        A signal takes effect later than it is sent, but what it is sent to wakes at once, and this process sleeps.
        """
        lost = self._parent_end()
        if lost is None and not self._may_signal():
            return None
        end = time.monotonic() + _TICK_SECONDS
        while lost is None and time.monotonic() < end and usage.state(self._parent.pid) != "S":
            time.sleep(_SOON_SECONDS)
            lost = self._parent_end()
        return lost

    def _may_signal(self) -> bool:
        """Could the subject send signals to other processes?"""
        filtered = SandboxFeature.SECCOMP in self._parts and not self.confinement.no_seccomp
        return self._library is not None and not filtered

    def _compare_machine(self) -> None:
        """An emulated one may be fifty times slower than others: its limits are raised, by what a start takes."""
        if not self.restarts:  # later, the worker's parent has done more than start
            with contextlib.suppress(OSError):
                used = usage.used_seconds(stat_fields(Path(f"/proc/{self._parent.pid}")))
                self._slower = max(1.0, used / _USUAL_START)

    def _patience_to_load(self) -> _Patience:
        """The whole of it, whatever a call is granted: what is loaded in vain ends a check."""
        return _Patience(self._cpu_seconds * self._slower, self._sleep_seconds * self._slower)

    def _patience(self) -> _Patience:
        share = self._slower * self.haste * (1 + self.segments / _QUICK_SEGMENTS)
        return _Patience(self._cpu_seconds * share, self._sleep_seconds * share)

    def _process_state(self) -> tuple[str, float]:
        """The worker's state as in proc(5), and the processor time it has used, in seconds."""
        try:
            fields = stat_fields(Path(f"/proc/{self.pid}"))
        except OSError:
            return "R", 0.0  # it has ended, and the notice is on its way
        return self._busiest(fields[0]), usage.used_seconds(fields)

    def _busiest(self, state: str) -> str:
        """The state of the worker's first thread; R where that waits for others, and one of them does not sleep."""
        if state == "S":
            for task in Path(f"/proc/{self.pid}/task").glob("*"):
                with contextlib.suppress(OSError):
                    if stat_fields(task)[0] == "R":
                        return "R"
        return state

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

    def _drain(self) -> None:
        """Forget what the last worker may still have said."""
        self._data.setblocking(False)
        try:
            with contextlib.suppress(BlockingIOError):
                while self._data.recv(64):
                    pass
        finally:
            self._data.setblocking(True)

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

    def _write(self, offset: int, data: bytes) -> None:
        try:
            written = os.pwrite(self._memory, data, offset)
        except OSError as error:
            raise HarnessError(f"no memory for a request: {error.strerror}") from error
        if written != len(data):
            raise HarnessError("no memory for a request")

    def _read(self, offset: int, size: int) -> bytes:
        """A copy of what the worker wrote. What it has taken away, by a hole, is zeros."""
        try:
            return os.pread(self._memory, size, offset)
        except OSError as error:
            raise HarnessError(f"no memory for a reply: {error.strerror}") from error

    def progress(self) -> Progress:
        return Progress._make(_PROGRESS.unpack(self._read(0, _PROGRESS.size)))

    def replies(self, size: int = _REPLY_BYTES) -> memoryview:
        """The first `size` bytes of the replies, as they are now."""
        return memoryview(self._read(_PROGRESS_BYTES + _REQUEST_BYTES, min(size, _REPLY_BYTES)))

    def covered(self) -> bytes:
        """What of the subject's library ever ran in this worker and those before it: a byte for each place, not 0 for
        those where a block began."""
        now = self._read(_SHARED_BYTES - _COVERED_BYTES, self._code_bytes).rstrip(b"\0")
        return either(now, self._covered_before)

    def mark_covered(self, places: Iterable[int], *, now: bool) -> None:
        """Let these places be covered, or not."""
        for place in places:
            if place < self._code_bytes:
                self._write(_SHARED_BYTES - _COVERED_BYTES + place, bytes([now]))

    def _note(self) -> str:
        """Why a worker says that it ended."""
        length = self.progress().note_bytes
        if length > _NOTE_BYTES:
            return ""  # the subject wrote there
        text = self._read(_PROGRESS.size, length).decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

    def _kill(self) -> None:
        """End the worker and all that it forked."""
        pid = self.pid  # as its parent told: what the worker wrote itself is not believed
        if not pid:
            return  # none has started
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(pid, signal.SIGKILL)

    def _complaint(self) -> str:
        """What the worker's parent wrote to its standard error, if anything."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="backslashreplace").strip()
        if not text:
            return ""
        return f": {text}" if len(text.splitlines()) == 1 else f":\n{text}"
