"""The process in which a subject runs, as its owner sees it: started, watched, ended, replaced.

The owner never forks: it starts one small process, which forks workers (pyx/world/serve.c).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import vfio_verify
from vfio_verify.errors import HarnessError, InputError, starting
from vfio_verify.values.words import death_text
from vfio_verify.worker import native, usage
from vfio_verify.worker.answers import Kind
from vfio_verify.worker.children import wait_for
from vfio_verify.worker.deaths import death
from vfio_verify.worker.limits import TICK_SECONDS, Limits, Patience
from vfio_verify.worker.memory import SharedMemory
from vfio_verify.worker.sandbox import Confinement, SandboxFeature, readable_by_subject

_START_SECONDS = 20.0
_END_SECONDS = 10.0
_USUAL_START, _USUAL_START_OF_PYTHON = 0.01, 0.05
"""Processor time, in seconds, in which a worker's parent starts at the most on a machine that is not emulated."""
_SWEEPS = 50
_MARK = "VFIO_VERIFY_WORKER"
"""A variable in the environment of all processes of one worker, by which they can be found and ended."""

_SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "VFIO_VERIFY_SANITIZER_REPORTS")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LD_PRELOAD", *_SANITIZERS)
"""What a worker keeps of the environment: what loading needs, and no secrets."""

_CORE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from vfio_verify import _world
os._exit(_world.serve([os.fsencode(word) for word in sys.argv[1:]]))  # there is nothing to give back
"""
"""The core is a module of Python's. A C subject is run by a program, in which there is no Python."""


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes started in here never hear Ctrl-C, SIGTERM or SIGHUP, which may reach a whole process group: the first
    process answers them, and ends the others."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Process:
    """A worker and its parent, which starts the next one when one has ended. `close` ends both."""

    def __init__(self, library: Path | None, limits: Limits, parts: SandboxFeature) -> None:
        self.restarts = 0
        self.confinement = Confinement()
        """What of the sandbox is in force; `parts` says what is asked for."""
        self.library, self.parts = library, parts
        self.pid = 0
        """The worker's, as its parent told: what the worker wrote itself is not believed. 0 where none lives."""
        self.is_lost = False
        """Whether the worker's parent is not to be relied on any more: it is replaced with the next worker."""
        self.limits = limits
        self.slower = 1.0
        """How many times slower this machine is than those for which the limits are made."""
        self.shared_before = 0
        """What the whole machine shared when the worker began, in bytes."""
        self._resources = contextlib.ExitStack()
        try:
            self._start(b"")
        except BaseException:
            self.close()
            raise

    # ---- starting ------------------------------------------------------------------------------------------------

    def _start(self, covered: bytes) -> None:
        keep = self._resources.enter_context
        self._mark = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.is_lost = False
        self._errors = keep(tempfile.TemporaryFile())  # noqa: SIM115  # the stack of resources closes it
        self.memory = keep(contextlib.closing(SharedMemory(self.library, covered)))
        control, data = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        self.control, self.data = keep(control[0]), keep(data[0])
        with control[1], data[1], self.memory.opened_anew() as memory, starting("a process for the subject"):
            self._parent = self._spawn((control[1].fileno(), data[1].fileno(), memory))
        self._resources.callback(self._end_parent)
        with contextlib.suppress(OSError):  # it is gone already, as will be seen
            self._begin()
        self._expect_start()

    def _spawn(self, fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
        package = Path(vfio_verify.__file__).parent
        readable = readable_by_subject(self.library) if self.parts else ()
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # The stacks of threads that have ended would be pages that a call leaves behind.
        environment = kept | {"GLIBC_TUNABLES": "glibc.pthread.stack_cache_size=0", _MARK: self._mark}
        program = [package / "_worker"] if self.library else [sys.executable, "-I", "-S", "-c", _CORE, package.parent]
        sizes = native.REQUEST_BYTES, native.REPLY_BYTES
        arguments = (*program, *fds, *sizes, self.library or "", int(self.parts), *readable)  # pyx/world/main.h
        with deaf_to_interrupts():
            return subprocess.Popen(
                list(map(str, arguments)),
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=environment,
                start_new_session=True,
            )

    def _begin(self) -> None:
        """Have the worker begin that gets ready. Raises OSError."""
        self.control.send(b"g")

    def _expect_start(self) -> None:
        """Wait for a fresh worker's greeting. Raises InputError when the subject cannot be loaded."""
        self.pid = 0
        self.shared_before = usage.machine_shared_bytes()
        told = False  # of its confinement; what comes later may be the subject's own words
        end = time.monotonic() + _START_SECONDS
        patience = Patience(self.limits, self.slower)
        while (left := end - time.monotonic()) > 0:
            ready = self.wait(min(left, TICK_SECONDS))
            if self.data in ready and self.pid:
                notice = self.notice(self.data)
                if notice is not None and notice.kind == native.CONFINED and not told:
                    self.confinement, told = Confinement.unpack(notice.value), True
                    continue
                if notice is not None and notice.kind == native.STARTED:
                    return
                time.sleep(0 if notice else TICK_SECONDS)  # a process that ends closes this before it has ended
                lost = self.parent_end()
                why = lost.damage if lost else self._load_error()
                raise InputError(f"the subject cannot be loaded: {why}")
            if self.control in ready:
                notice = self.notice(self.control)
                if notice is not None and notice.kind == native.STARTED:
                    self.pid = notice.value
                    self._compare_machine()
                    patience = Patience(self.limits, self.slower)
                elif notice is not None and notice.kind == native.ENDED:
                    self.pid = 0
                    if not told:  # somebody else ended it: its subject was not loaded. The next one gets ready
                        with contextlib.suppress(OSError):
                            self._begin()
                        continue
                    ended = death(Kind.BY_ITSELF, self.memory, status=notice.value)
                    raise InputError(f"the subject ends its process while it is loaded: {death_text(ended)}")
                else:
                    self.is_lost = True
                    begun = self.pid or self.memory.progress().pid  # it may end before it tells of its child
                    if begun and self.library is not None:
                        raise InputError(f"the subject cannot be loaded: {Kind.PARENT_ENDED.damage}")
                    raise HarnessError(f"the worker's parent is gone{self._complaint()}")
            if self.pid and self.library is not None and patience.end(0, *usage.activity(self.pid)):
                raise InputError("the subject does not return while it is loaded")
        raise HarnessError(f"no worker starts within {_START_SECONDS:.0f} seconds{self._complaint()}")

    def _load_error(self) -> str:
        """What the loader says, by the names that the user gave."""
        said = self.memory.note() or "no reason given"
        if self.library is not None:
            said = said.replace(f"{self.library.parent}/linked/", "")
        hint = "; --link FILE.so gives it too" if "cannot open shared object file" in said else ""
        return said + hint

    def _compare_machine(self) -> None:
        """An emulated one may be fifty times slower than others: its limits are raised, by what a start takes."""
        if not self.restarts:  # later, the worker's parent has done more than start
            with contextlib.suppress(OSError):
                used = usage.used_seconds(usage.stat_fields(Path(f"/proc/{self._parent.pid}")))
                self.slower = max(1.0, used / (_USUAL_START if self.library else _USUAL_START_OF_PYTHON))

    def _complaint(self) -> str:
        """What the worker's parent wrote to its standard error, if anything."""
        self._errors.seek(0)
        text = self._errors.read().decode(errors="backslashreplace").strip()
        if not text:
            return ""
        return f": {text}" if len(text.splitlines()) == 1 else f":\n{text}"

    # ---- ending --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the worker and its parent. May be called again."""
        self._resources.close()

    def renew(self) -> None:
        """Go on in a fresh process."""
        self.end()
        self.restarts += 1
        if not self.is_lost:
            try:
                self._drain()
                self._begin()
                self._expect_start()
                return
            except OSError:
                self.is_lost = True
            except HarnessError:
                if not self.is_lost:
                    raise
        covered = self.memory.covered()
        self._resources.close()
        self._start(covered)

    def end(self) -> None:
        """End the worker and all that it forked, and wait until its parent tells that they have ended."""
        self._kill()
        end = time.monotonic() + _END_SECONDS
        while self.pid and not self.is_lost:
            if self.parent_end() is not None or (left := end - time.monotonic()) <= 0:
                self.is_lost = True
            elif self.control in select.select([self.control], [], [], min(left, TICK_SECONDS))[0]:
                notice = self.notice(self.control)
                self.is_lost = notice is None
                if notice is not None and notice.kind == native.ENDED:
                    self.pid = 0

    def _kill(self) -> None:
        if self.pid:
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    kill(self.pid, signal.SIGKILL)

    def _end_parent(self) -> None:
        self.control.close()  # tells the parent of workers to end
        self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It may have thousands to wait for, which nobody else may do.
            wait_for(self._parent, 0 if self.is_lost else _END_SECONDS)
        if self._parent.returncode is None:
            self._parent.kill()
            self._parent.wait()
        if self._parent.returncode:
            self._sweep()

    def _sweep(self) -> None:
        """End what the worker's parent did not live to end."""
        mark = f"{_MARK}={self._mark}".encode()
        for _ in range(_SWEEPS):
            found = False
            for process in usage.processes():
                with contextlib.suppress(OSError):
                    if mark in (process / "environ").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)
                        found = True
            if not found:
                return

    # ---- watching ------------------------------------------------------------------------------------------------

    def parent_end(self) -> Kind | None:
        """Whether the worker's parent was ended or stopped. It does neither by itself."""
        try:
            options = os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT
            status = os.waitid(os.P_PID, self._parent.pid, options)
        except ChildProcessError:
            return Kind.PARENT_ENDED
        if status is None:
            return None
        return Kind.PARENT_STOPPED if status.si_code == os.CLD_STOPPED else Kind.PARENT_ENDED

    def parent_sleeps(self) -> bool:
        """Whether the worker's parent waits for something, as it does while nobody disturbs it."""
        return usage.state(Path(f"/proc/{self._parent.pid}")) == "S"

    def wait(self, seconds: float) -> list[socket.socket]:
        """The sockets on which something was said, or will be no more."""
        return select.select([self.control, self.data], [], [], seconds)[0]

    def notice(self, source: socket.socket) -> native.Notice | None:
        """The next notice, or None: the other side is gone, or says what it never would."""
        try:
            message = source.recv(64)
        except ConnectionResetError:
            return None
        return native.Notice._make(native.NOTICE.unpack(message)) if len(message) == native.NOTICE.size else None

    def _drain(self) -> None:
        """Forget what the last worker may still have said."""
        with contextlib.suppress(BlockingIOError):
            while self.data.recv(64, socket.MSG_DONTWAIT):
                pass
