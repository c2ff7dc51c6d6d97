"""Processes that run the tasks of a campaign, a replay or a search, and end with the one that started them."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from vfio_verify.errors import starting
from vfio_verify.worker.leftovers import named_semaphores
from vfio_verify.worker.process import deaf_to_interrupts

T = TypeVar("T")
P = ParamSpec("P")

_PROCESSES = "processes for the work"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Processes(ProcessPoolExecutor):
    """Processes that end with this one. HarnessError where they cannot be started."""

    def __init__(self, jobs: int) -> None:
        # spawn: a fork of this process would carry Hypothesis's state and any thread's locks.
        context = multiprocessing.get_context("spawn")
        # The pool's semaphores have a process that looks after them, and that may be killed with this one.
        with starting(_PROCESSES), deaf_to_interrupts(), named_semaphores():
            super().__init__(jobs, context, initializer=_begin)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As Executor.submit. It may start the processes."""
        with starting(_PROCESSES), deaf_to_interrupts():
            return super().submit(fn, *args, **kwargs)

    def kill(self) -> None:
        """End the processes in the middle of their tasks; their workers end with them."""
        for process in list((self._processes or {}).values()):
            process.kill()

    def end(self) -> None:
        """Give back what is held. A pool that could not be started has no thread to wait for."""
        with contextlib.suppress(RuntimeError):
            self.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    atexit.register(gc.freeze)  # as at the end of a command: see vfio_verify/cli/main.py
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
