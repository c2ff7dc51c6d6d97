"""The machine's one pool of huge pages, which one test fills, others want empty, and others want to stay as it is."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Where temporary files are before a test says otherwise.
_LOCK = Path(tempfile.gettempdir()) / "vfio-verify-huge-pages.lock"


@contextmanager
def huge_pages_of_ones_own() -> Iterator[None]:
    """Nobody else looks at the pool."""
    with _held(fcntl.LOCK_EX):
        yield


@contextmanager
def huge_pages_as_they_are() -> Iterator[None]:
    """Nobody changes the pool: two campaigns see the same of it."""
    with _held(fcntl.LOCK_SH):
        yield


@contextmanager
def _held(how: int) -> Iterator[None]:
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, how)
        yield
