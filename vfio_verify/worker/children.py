"""How the end of a program that was started is waited for."""

from __future__ import annotations

import os
import select
import subprocess


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
