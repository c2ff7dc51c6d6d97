"""The program in a process of its own.

`run_anew` and `started` start Python anew. `run` forks a process that has imported the program and compiled with it
once: that is most of what a short command takes. A test starts Python anew where it is about the start itself, hash
seeds, signals, standard streams, or variables that Python reads at its start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from preloaded import Preloaded
from subject_files import DIRECTORY

SHORT = """
import multiprocessing
from types import SimpleNamespace
from vfio_verify.generate import kernel_faults

kernel_faults.why_not = lambda _: "not in this test"  # before any other module takes its name
from vfio_verify.campaign import processes, shard

shard._CONCURRENT_ROUNDS = 4
# Where the program asks for processes that are spawned:
processes.multiprocessing = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("fork"))
"""
"""Before the program is run: without kernel faults, with few rounds of concurrent calls, and its processes forked."""
READY = f"""
{SHORT}
import importlib, pkgutil
import vfio_verify
for room in ("campaign", "cli", "corpus", "report", "search", "subject.source", "trial"):
    package = importlib.import_module("vfio_verify." + room)
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from vfio_verify.subject.subject import open_subject
try:
    with open_subject({str(DIRECTORY / "correct" / "check_first.c")!r}):
        pass
except vfio_verify.errors.InputError:  # without a compiler
    pass
"""
PRELOADED = Preloaded(READY)
STARTING = 4.0 if {"COVERAGE_PROCESS_CONFIG", "VFIO_VERIFY_SANITIZE"} & os.environ.keys() else 0.0
"""More seconds before a command that is started anew can be interrupted: in `tox -e cov` and `tox -e asan` it starts
slowly, and what measures coverage loses an interrupt meanwhile."""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-P", "-m", "vfio_verify", *map(str, arguments)]


def run_anew(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


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
    """As `run_anew`, but without kernel faults, as the report says, and with few rounds of concurrent calls: these take
    most of a short check. The command's own processes are forked, and not spawned."""
    return Running(PRELOADED, *arguments, cwd=cwd, text=text, env=env).ended(120)


class Running:
    """A command in a process that is forked from a preloaded one."""

    def __init__(
        self,
        preloaded: Preloaded,
        *arguments: object,
        cwd: Path,
        text: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._arguments = arguments
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115  # closed at the end
        with tempfile.TemporaryFile() as given:
            given.write(text.encode())
            given.seek(0)
            streams = given, self._out, self._err
            env = os.environ if env is None else env
            self.process = preloaded.fork("vfio_verify", arguments, streams, cwd=cwd, env=env)

    def ended(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """What it wrote, when it has ended by itself within so many seconds."""
        with self._out, self._err:
            try:
                status = self.process.wait(seconds)
            finally:
                self.process.send_signal(signal.SIGKILL)
            texts = [os.pread(file.fileno(), 1 << 30, 0).decode() for file in (self._out, self._err)]
        return subprocess.CompletedProcess(self._arguments, status, *texts)
