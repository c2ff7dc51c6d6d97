"""How a program is started with this environment, waited for, and ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess


def environment(**more: str) -> dict[str, str]:
    """The environment of this process, with more. Without what is preloaded: that is meant for this process. A
    sanitizer's runtime, for one, cannot start within a limit on address space."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | more


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> int:
    """The exit status of a child, as soon as it has ended. Raises subprocess.TimeoutExpired.

    Popen.wait() with a time limit looks now and then, and sleeps up to 50 ms in between.
    """
    try:
        end = os.pidfd_open(process.pid)
    except OSError:  # a kernel before Linux 5.3
        return process.wait(seconds)
    try:
        told = select.poll()
        told.register(end, select.POLLIN)
        told.poll(seconds * 1000)
    finally:
        os.close(end)
    return process.wait(0)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program that is the first of its group, and what else is in that."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
