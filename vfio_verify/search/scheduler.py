"""Which shard is next, and which task runs when."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from vfio_verify.errors import HarnessError
from vfio_verify.search.place import Place
from vfio_verify.search.state import Part
from vfio_verify.search.tasks import CandidateTask, ShardTask, Task, Workers

ATTEMPTS = 3
"""How often a task is tried whose process ends unexpectedly, and a candidate that is not seen again."""
_LOOK_SECONDS = 10.0
"""The time between looks at shards that another search has claimed."""


class ShardNumbers:
    """The shards of one part of the work that nobody has done, in order, by their numbers in the campaign."""

    def __init__(self, part: Part, place: Place, is_done: Callable[[int], bool]) -> None:
        self._numbers = (number for number in itertools.count(part.number, part.of) if not is_done(number))
        self._place, self._is_done = place, is_done
        self._passed: list[int] = []
        self._looked = time.monotonic()

    def claim(self) -> int:
        """The next shard, which no other search does from now on. One that another search had claimed and has not
        done, since it was killed, comes again."""
        now = time.monotonic()
        if self._passed and now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._passed = [number for number in self._passed if not self._is_done(number)]
            for number in self._passed:
                if self._place.claim(number):
                    self._passed.remove(number)
                    return number
        for number in self._numbers:
            if self._place.claim(number):
                return number
            self._passed.append(number)
        raise AssertionError("there is no last shard")


class Scheduler:
    """Gives tasks to the workers, and gives them again where a process ended unexpectedly.

    Nobody knows whose task was to blame for that, so each is tried again, and one after the other. `submit` begins a
    task.
    """

    def __init__(self, workers: Workers, submit: Callable[[Task], Future[Any]]) -> None:
        self._workers, self._submit = workers, submit
        self._running: dict[Future[Any], Task] = {}
        self._candidates: list[Task] = []
        self._again: list[Task] = []
        self._in_a_row = 0
        self.restarts = 0
        """How often all processes were replaced."""

    @property
    def is_busy(self) -> bool:
        """Whether any task is under way or to be tried again."""
        return bool(self._running or self._again)

    def add(self, tasks: list[CandidateTask]) -> None:
        """Have these run before any further shard."""
        self._candidates += tasks

    def fill(self, next_shard: Callable[[], ShardTask | None]) -> None:
        """Begin what there is room for: candidates first; of shards one more than there are processes."""
        while self._candidates:
            self._begin(self._candidates.pop(0))
        if self._again:
            if not self._running:
                self._begin(self._again.pop(0))
            return
        while not self._again and len(self._running) <= self._workers.slots and (task := next_shard()):
            self._begin(task)

    def _begin(self, task: Task) -> None:
        try:
            self._running[self._submit(task)] = task
        except self._workers.lost:
            # The workers are gone, and no task of theirs has told so yet.
            self._again.append(task)
            self._renew_if_idle()

    def finished(self, seconds: float) -> Iterator[tuple[Task, Any]]:
        """Wait at most so many seconds; then each task that ended, with its result. That is None if its process ended
        unexpectedly in each attempt."""
        done, _ = wait(self._running, seconds, FIRST_COMPLETED)
        for future in done:
            task = self._running.pop(future)
            try:
                result = future.result()
            except self._workers.lost:
                if task.attempts < ATTEMPTS:
                    self._again.append(task._replace(attempts=task.attempts + 1))
                else:
                    yield task, None
                self._renew_if_idle()
            else:
                self._in_a_row = 0
                yield task, result

    def _renew_if_idle(self) -> None:
        if self._running:
            return
        self._in_a_row += 1
        if self._in_a_row > 2 * ATTEMPTS:
            raise HarnessError("the search's processes end unexpectedly, one after the other (out of memory?)")
        self._workers.renew()
        self.restarts += 1

    def give_up_shards(self) -> None:
        """Run candidates only. They must not wait for shards whose results nobody waits for."""
        queued = len(self._running) > self._workers.slots
        shards = [future for future, task in self._running.items() if isinstance(task, ShardTask)]
        for future in shards:
            if future.cancel() or queued:
                del self._running[future]
        if queued and shards and self._workers.renew():
            self._candidates += self._running.values()
            self._running.clear()

    def cancel(self) -> None:
        """Cancel what has not begun."""
        for future in self._running:
            future.cancel()
