"""How long a check waits for a subject that hangs: each part of the work has a budget of its own."""

from __future__ import annotations

from vfio_verify.values.observation import Observation
from vfio_verify.worker.worker import Worker


class HangBudget:
    """Some hangs are waited for to the end. After these, a call that does not return at once is given up and not
    judged: it may be no hang. After a number of those, too, the rest of this part is left out."""

    def __init__(self, worker: Worker, to_the_end: int, given_up: int) -> None:
        self._worker, self._to_the_end, self._given_up = worker, to_the_end, given_up

    @property
    def is_spent(self) -> bool:
        """Whether the rest of this part is left out."""
        return self._to_the_end <= 0 and self._given_up <= 0

    def begin(self) -> None:
        """A run of this part begins."""
        self._worker.hurry(on=self._to_the_end <= 0)

    def end(self, seen: Observation) -> bool:
        """A run of this part has ended. False if it was given up and is not to be judged."""
        if not hung(seen):
            return True
        if self._to_the_end > 0:
            self._to_the_end -= 1
            return True
        self._given_up -= 1
        return False


def hung(seen: Observation) -> bool:
    """Whether a run, or one of the calls of a sequence, was ended since it took seconds."""
    return _is_slow(seen) or any(_is_slow(step.call) for step in seen.steps if step.call is not None)


def _is_slow(seen: Observation) -> bool:
    return seen.death is not None and seen.death.is_slow
