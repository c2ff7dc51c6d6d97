"""Processes that are forked from one that has imported what they need: `python -m MODULE`, without its start."""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import random
import runpy
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_SECONDS = 120


class Forked:
    """A process, with what of `subprocess.Popen` is used of it."""

    def __init__(self, server: socket.socket, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server, self._end = server, os.pidfd_open(pid)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, seconds: float = _SECONDS) -> int:
        status = self._ended(seconds)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), seconds)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _ended(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], seconds)[0]:
            os.close(self._end)
            self.returncode = _asked(self._server, self.pid)
        return self.returncode


class Preloaded:
    """The process that is forked. It is started by the first fork, runs `code` then, and ends with this process."""

    def __init__(self, code: str, **environment: str) -> None:
        self._code, self._environment = code, environment
        self._server: socket.socket | None = None

    def fork(
        self,
        module: str,
        arguments: Sequence[object],
        streams: tuple[IO[Any], IO[Any], IO[Any]],
        *,
        cwd: Path,
        env: Mapping[str, str],
        new_session: bool = False,
    ) -> Forked:
        self._server = self._server or self._start()
        request = (module, list(map(str, arguments)), str(cwd), dict(env), new_session)
        return Forked(self._server, _asked(self._server, request, [stream.fileno() for stream in streams]))

    def _start(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(its.fileno()), self._code],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | self._environment,
            )
        ours.settimeout(_SECONDS)
        atexit.register(process.wait)
        atexit.register(ours.close)
        return ours


def _asked(server: socket.socket, request: object, fds: Sequence[int] = ()) -> int:
    socket.send_fds(server, [pickle.dumps(request)], fds)
    return int(server.recv(16))


def _serve(control: socket.socket) -> str | None:
    """Fork when asked to, and wait for one that has ended. Returns the module in the fork, and None at the end."""
    while True:
        message, fds, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not message:
            return None
        request = pickle.loads(message)
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)
            control.send(b"%d" % os.waitstatus_to_exitcode(status))
        elif child := os.fork():
            control.send(b"%d" % child)
        else:
            break
        for fd in fds:
            os.close(fd)
    control.close()
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    module, sys.argv[1:], cwd, environment, new_session = request
    if new_session:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    random.seed()
    return str(module)


if __name__ == "__main__":
    exec(sys.argv[2])
    gc.freeze()
    if (module := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
