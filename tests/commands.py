"""The program in a process of its own.

`run_anew` and `started` start Python anew. `run` forks a process that has imported the program and compiled with
it once: that is most of what a short command takes. A test starts Python anew where it is about the start itself, hash
seeds, signals, standard streams, or variables that Python reads at its start.
"""

from __future__ import annotations

import atexit
import functools
import gc
import os
import pickle
import pkgutil
import random
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

_SECONDS = 120


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "vfio_verify", *map(str, arguments)]


def run_anew(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=_SECONDS, check=False)


def started(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """In a session of its own, with its temporary files in its working directory."""
    return subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(cwd)},
    )


def run(
    *arguments: object, cwd: Path, text: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As `run_anew`, but without kernel faults, which take most of a short check. Its report says so."""
    words = tuple(map(str, arguments))
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(text.encode())
        given.seek(0)
        request = pickle.dumps((words, str(cwd), dict(os.environ if env is None else env)))
        server = _server()
        socket.send_fds(server, [request], [given.fileno(), out.fileno(), err.fileno()])
        status = int(server.recv(16))
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, status, out.read().decode(), err.read().decode())


# ---- the process that is forked -----------------------------------------------------------------------------------


@functools.cache
def _server() -> socket.socket:
    """The connection to this process's own, which ends when it is closed."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    ours.settimeout(_SECONDS)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _preload() -> None:
    """Import and remember what a command needs."""
    import vfio_verify
    from vfio_verify.generate import kernel_faults

    kernel_faults.why_not = lambda _: "not in this test"  # before any other module takes its name
    for room in ("campaign", "cli", "corpus", "report", "search", "subject.source", "trial"):
        package = import_module(f"{vfio_verify.__name__}.{room}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    source = Path(__file__).parent / "subjects" / "correct" / "check_first.c"
    with import_module("vfio_verify.subject.subject").open_subject(str(source)):
        gc.freeze()


def _serve(control: socket.socket) -> tuple[str, ...] | None:
    """Fork for each request. Returns its arguments in the fork, and None at the end."""
    while True:
        request, fds, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not request:
            return None
        if child := os.fork():
            for fd in fds:
                os.close(fd)
            _, status = os.waitpid(child, 0)
            control.send(b"%d" % os.waitstatus_to_exitcode(status))
            continue
        words, cwd, environment = pickle.loads(request)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        control.close()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        random.seed()
        return words


if __name__ == "__main__":
    _preload()
    if (words := _serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        sys.argv[1:] = words
        runpy.run_module("vfio_verify", run_name="__main__", alter_sys=True)
