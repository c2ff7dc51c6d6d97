"""Who listens to a search, where its tasks run, and what of its outcome depends on the layouts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import Any

from vfio_verify.search.state import Finding, State
from vfio_verify.search.watcher import SearchProgress


class Heard:
    """What a search tells, and something to do at each tick."""

    def __init__(self, at_tick: Callable[[SearchProgress], None] = lambda _: None) -> None:
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.tick = at_tick

    def found(self, finding: Finding) -> None:
        self.findings.append(finding)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Here(Executor):
    """Runs a task when it is submitted, and loses those that it is told to."""

    def __init__(self, loses: Callable[[Any], bool] = lambda _: False) -> None:
        self._loses = loses

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self._loses(arguments[2]):
            future.set_exception(BrokenExecutor())
        else:
            try:
                future.set_result(function(*arguments, **named))
            except Exception as error:  # noqa: BLE001  # as any executor does
                future.set_exception(error)
        return future


def totals(*states: State) -> dict[str, Any]:
    """What depends on the layouts alone."""
    return {
        "layouts": sum(state.layouts for state in states),
        "runs": sum(state.runs for state in states),
        "checked": sum((Counter(state.checked) for state in states), Counter()),
        "features": sum((Counter(state.features) for state in states), Counter()),
    }
