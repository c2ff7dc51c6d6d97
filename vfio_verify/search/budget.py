"""When a search ends."""

from __future__ import annotations

import time
from typing import Literal

from msgspec import Struct

Reason = Literal["time", "layouts", "found", "interrupted"]
Awaited = Literal["all", "candidates", "nothing"]

_TICK_SECONDS = 0.25
_GRACE_SECONDS, _FIRST_GRACE_SECONDS = 15.0, 90.0
"""Time beyond the budget to decide on candidates seen within it; the second where nothing was found so far, since a
case that hangs is slow to be made small. The second also holds for the first layouts of all, which a busy machine
delays."""


class Budget(Struct, frozen=True):
    """When a search ends; if nothing is set, it ends when it is interrupted."""

    seconds: float | None = None
    layouts: int | None = None
    """The least number of layouts; whole shards are run."""
    until_found: bool = False
    """End when a violation is confirmed, after the other candidates seen by then are decided too."""
    fail_fast: bool = False
    """End when a violation is confirmed, and start nothing else once there is a candidate."""


class Ending:
    """Why a search is to end, once it is, and what it still waits for then."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self._start = budget, time.monotonic()
        self.reason: Reason | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._start

    @property
    def _over(self) -> float:
        """Seconds since the time was up; negative before, and 0 where no time is set."""
        return 0.0 if self.budget.seconds is None else self.elapsed - self.budget.seconds

    def patience(self) -> float:
        """Seconds to wait for a task before the time, and signals, are looked at again."""
        if self.budget.seconds is None or self.reason is not None:
            return _TICK_SECONDS
        return max(0.0, min(_TICK_SECONDS, -self._over))

    def check_time(self) -> None:
        """End if the time is up."""
        if self.budget.seconds is not None and self._over >= 0:
            self.reason = self.reason or "time"

    def violation_confirmed(self) -> None:
        """End if this is what the search was for."""
        if (self.budget.until_found or self.budget.fail_fast) and self.reason != "interrupted":
            self.reason = "found"

    def awaited(self, *, has_run: bool, has_found: bool) -> Awaited:
        """What is waited for of that which is under way. Candidates get some time after the budget is spent, and
        without any layout run there would be no verdict."""
        if self.reason is None or self.reason == "layouts":
            return "all"
        if self.budget.fail_fast and self.reason == "found":
            return "nothing"
        if not has_run and self._over <= _FIRST_GRACE_SECONDS:
            return "all"
        return "candidates" if self._over <= (_GRACE_SECONDS if has_found else _FIRST_GRACE_SECONDS) else "nothing"
