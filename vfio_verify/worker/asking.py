"""Asking a worker, and waiting for what comes back: its reply, or its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

from vfio_verify.errors import NotPermittedError
from vfio_verify.worker import limits, native, usage
from vfio_verify.worker.answers import End, Kind, Reply, Request
from vfio_verify.worker.deaths import bytes_left, death
from vfio_verify.worker.limits import TICK_SECONDS, Excess, Patience
from vfio_verify.worker.process import Process
from vfio_verify.worker.sandbox import SandboxFeature

_SOON_SECONDS = 0.0005
_ANSWER_SECONDS = 0.1
_HASTE = 0.13
"""The part of the time that a call may take, where many calls are known to hang."""


class Asker:
    """Asks the workers of a process."""

    def __init__(self, process: Process) -> None:
        self.hurries = False
        """Whether a call is waited for only a fraction of the usual time."""
        self._process = process
        self._looked = 0.0
        self._granted = 0

    def ask(self, request: Request) -> Reply | End:
        """Send a request and wait for the answer. Raises NotPermittedError where a kernel fault cannot be set up."""
        process = self._process
        process.memory.begin(request.data)
        self._grant(request.forks)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the other side is gone, as will be seen
            process.data.send(native.LENGTH.pack(len(request.data)))
        share = process.slower * limits.share_of(request.segments) * (_HASTE if self.hurries else 1)
        patience = Patience(process.limits, share)
        while True:
            ready = process.wait(TICK_SECONDS)
            lost = self._settled_parent_end() if process.data in ready else process.parent_end()
            if lost is not None:
                return self.give_up(lost)
            if self._granted and ready and self._tells_of_fork():
                return self.give_up(Kind.FORKED)  # told before the answer, which is not believed
            if process.data in ready:
                return self._answer(request)
            if process.control in ready:
                return self._ended()
            progress = process.memory.progress()
            kind = patience.end((progress.plan, progress.finished), *usage.activity(process.pid))
            if kind is not None:
                return self.give_up(kind)
            if excess := self.excess():
                return self.give_up(Kind.TOO_MUCH, excess)

    def _grant(self, forks: int) -> None:
        """Tell the worker's parent how many forks to let through (pyx/world/confine/oversee.c), where it decides on
        them."""
        is_overseen = self._is_filtered() and not self._process.confinement.no_forks
        if is_overseen and (forks or self._granted):
            self._granted = forks
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._process.control.send(native.GRANT.pack(native.FORKED, forks))

    def _is_filtered(self) -> bool:
        return SandboxFeature.SECCOMP in self._process.parts and not self._process.confinement.no_seccomp

    def _settled_parent_end(self) -> Kind | None:
        """As `Process.parent_end`, with all that the subject did before the worker answered.

        A signal takes effect later than it is sent, but what it is sent to wakes at once, and this process sleeps.
        """
        lost = self._process.parent_end()
        if lost is None and (self._process.library is None or self._is_filtered()):
            return None  # nobody could send one
        end = time.monotonic() + TICK_SECONDS
        while lost is None and time.monotonic() < end and not self._process.parent_sleeps():
            time.sleep(_SOON_SECONDS)
            lost = self._process.parent_end()
        return lost

    def _tells_of_fork(self) -> bool:
        """Whether the worker's parent says next that one fork more than granted was tried."""
        with contextlib.suppress(ConnectionResetError, BlockingIOError):
            message = self._process.control.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            return len(message) == native.NOTICE.size and native.NOTICE.unpack(message)[0] == native.FORKED
        return False

    def _answer(self, request: Request) -> Reply | End:
        """What the worker says at the end of a request, unless it cannot be kept."""
        notice, progress = self._process.notice(self._process.data), self._process.memory.progress()
        if notice is None:
            return self.give_up(Kind.FORGED)
        if notice.kind < 0 and not progress.reply_bytes:  # before the subject was called
            error = notice.value & 0xFFF
            if notice.kind == native.UNFIT and request.kernel_fault:
                raise NotPermittedError(f"the kernel fault cannot be set up: {os.strerror(error)}")
            return self.give_up(Kind.REFUSED)._replace(errno=error)
        if notice.kind != progress.reply_bytes or not 0 <= notice.value <= native.CHANGED | native.BLIND:
            return self.give_up(Kind.FORGED)
        if notice.value & native.BLIND:
            return self.give_up(Kind.BLIND)
        data = self._process.memory.reply(progress.reply_bytes)
        return Reply(progress, data, changed=bool(notice.value & native.CHANGED))

    def _ended(self) -> End:
        """The end that the worker's parent tells of."""
        notice = self._process.notice(self._process.control)
        if notice is None:
            return self.give_up(Kind.PARENT_ENDED)
        self._process.pid = 0
        status, in_subject = notice.value, self._process.memory.progress().in_subject
        unable = os.WIFEXITED(status) and os.WEXITSTATUS(status) == native.UNABLE_TO_ANSWER
        return self._end(Kind.BLIND if unable and not in_subject else Kind.BY_ITSELF, status=status)

    def give_up(self, kind: Kind, excess: Excess | None = None) -> End:
        """End the worker, for this reason, unless its end shows that it was only suspected."""
        if kind is Kind.HANG and self._process.pid:
            self._ask_where()
        if kind in (Kind.PARENT_ENDED, Kind.PARENT_STOPPED):
            self._process.is_lost = True
        before = usage.machine_shared_bytes() if excess else 0
        self._process.end()
        enough = self._process.limits.memory_bytes // 2  # to tell: others hold memory, and come and go too
        if excess and excess.is_suspected and before - usage.machine_shared_bytes() < enough:
            kind = Kind.SUSPECTED
        return self._end(kind, note=excess.note if excess else "")

    def _end(self, kind: Kind, *, status: int = 0, note: str = "") -> End:
        memory = self._process.memory
        progress = memory.progress()
        return End(kind, progress, memory.reply(bytes_left(progress)), death(kind, memory, status=status, note=note))

    def _ask_where(self) -> None:
        """Have a worker that hangs tell where it is. It may not answer: the signal can be blocked, or another's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self._process.pid, signal.SIGRTMAX)
            end = time.monotonic() + _ANSWER_SECONDS
            while not self._process.memory.places().is_told and time.monotonic() < end:
                time.sleep(_SOON_SECONDS)

    def excess(self) -> Excess | None:
        """What the worker holds more of than a subject can need. Looked at now and then, where there is a sandbox."""
        if not self._process.parts or time.monotonic() - self._looked < TICK_SECONDS / 2:
            return None
        self._looked = time.monotonic()
        return limits.excess(self._process.pid, self._process.limits, self._process.shared_before)
