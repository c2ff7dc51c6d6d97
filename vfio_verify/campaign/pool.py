"""What runs the tasks of a campaign or a replay, and what Ctrl-C does to it."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from vfio_verify.errors import HarnessError, starting

if TYPE_CHECKING:
    from vfio_verify.campaign.processes import Processes

T = TypeVar("T")


class LostProcessError(HarnessError):
    """A process that runs tasks is gone, and the pool gives no further results."""


class Pool:
    """What runs the tasks: an executor that is given, or processes here; with one job, or one task, this process."""

    def __init__(self, jobs: int, given: Executor | None = None, *, tasks: int | None = None) -> None:
        self._jobs = jobs
        self._own: Processes | None = None
        if given is None and (processes := jobs if tasks is None else min(jobs, tasks)) > 1:
            # Imported late: with one job, nothing of multiprocessing is needed.
            from vfio_verify.campaign.processes import Processes

            self._own = Processes(processes)
        self._executor = self._own if given is None else given
        self._threads: ThreadPoolExecutor | None = None
        self._futures: list[Future[Any]] = []

    @property
    def is_here(self) -> bool:
        """Whether the tasks are run in this process."""
        return self._executor is None

    @property
    def has_threads(self) -> bool:
        """Whether `map_beside` runs tasks in threads of this process."""
        return self.is_here and self._jobs > 1

    def map(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], **here: Any) -> Iterator[T]:
        """The results in the order of the tasks, each as soon as it and those before it are there. `here` are further
        arguments for tasks that are run in this process."""
        if self._executor is None:
            return (function(*task, **here) for task in tasks)
        with _telling_of_loss():
            return self._submit(self._executor, function, tasks)

    def map_beside(self, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]], **here: Any) -> Iterator[T]:
        """As `map`, but with more than one job the tasks that are run in this process are run beside each other. It is
        for those that do little but wait for their workers, which must not be shared."""
        if not self.has_threads:
            return self.map(function, tasks, **here)
        self._threads = self._threads or ThreadPoolExecutor(self._jobs)
        with starting("threads for the work"):
            return self._submit(self._threads, partial(function, **here), tasks)

    def _submit(self, executor: Executor, function: Callable[..., T], tasks: Sequence[tuple[Any, ...]]) -> Iterator[T]:
        futures = [executor.submit(function, *task) for task in tasks]
        self._futures += futures
        return map(_result, futures)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self.kill()
        if self._own is not None:
            self._own.end()
        if self._threads is not None:
            self._threads.shutdown()

    def kill(self) -> None:
        """End the processes in the middle of their tasks. A given executor is its owner's, and threads cannot be ended:
        only what was not begun is taken back."""
        if self._own is not None:
            self._own.kill()
            return
        for future in self._futures:
            future.cancel()


class Interrupts:
    """Ctrl-C raises KeyboardInterrupt; while `deferred`, only where `raise_if_asked` is called. Hypothesis has a
    callback in the garbage collector, and what is raised there is printed and lost."""

    deferred = False

    def __enter__(self) -> Interrupts:
        self._asked = False
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if not self.deferred:
            raise KeyboardInterrupt

    def raise_if_asked(self) -> None:
        if self._asked:
            raise KeyboardInterrupt


def _result(future: Future[T]) -> T:
    with _telling_of_loss():
        return future.result()


@contextlib.contextmanager
def _telling_of_loss() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise LostProcessError("one of the processes ended unexpectedly (out of memory?)") from error
