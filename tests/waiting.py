"""Waiting for what another process does, rather than for so many seconds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path


def until(said: str, what: Callable[[], object], seconds: float = 25) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} seconds: {said}"
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and those that they started."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found |= {int(child)} | descendants(int(child))
    return found


def has_started(pid: int, argument: str) -> bool:
    """Whether a descendant of a process runs with this for one of its arguments."""
    return any(argument in arguments_of(child) for child in descendants(pid))


def arguments_of(pid: int) -> list[str]:
    """None of a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []
