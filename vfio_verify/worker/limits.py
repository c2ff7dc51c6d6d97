"""How long a call may take, and how much memory and how many threads a worker may hold."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vfio_verify.worker import usage
from vfio_verify.worker.answers import Kind

TICK_SECONDS = 0.2
MEMORY_BYTES, _THREADS = 2 << 30, 256
_QUICK_SEGMENTS = 2048
"""Segments for which a call may take as long again: a helper may compare each with each, 65,536 in some seconds."""


class Limits(NamedTuple):
    """How long a call may take, in processor time or asleep, and how much memory a worker may hold."""

    cpu_seconds: float
    sleep_seconds: float
    memory_bytes: int = MEMORY_BYTES


def share_of(segments: int) -> float:
    """How many times as long a call may take with so many segments as with none."""
    return 1 + segments / _QUICK_SEGMENTS


class Patience:
    """Waits for one call, `share` times as long as usual, from when the worker was last seen to get on."""

    def __init__(self, limits: Limits, share: float) -> None:
        self._cpu_seconds, self._sleep_seconds = limits.cpu_seconds * share, limits.sleep_seconds * share
        self._seen: object = None
        self._used = self._slept = 0.0
        self._stops = 0

    def end(self, at: object, state: str, cpu: float) -> Kind | None:
        """One more tick, in which the worker was `at` some place: `HANG`, `STOPPED`, or None."""
        if self._seen != at:
            self._seen, self._used, self._slept = at, cpu, 0.0
        self._slept = self._slept + TICK_SECONDS if state in "STtD" else 0.0
        # In one tick it may have been stopped by someone who lets it go on.
        self._stops = self._stops + 1 if state == "T" else 0
        if self._stops > 1:
            return Kind.STOPPED
        hangs = cpu - self._used >= self._cpu_seconds or self._slept >= self._sleep_seconds
        return Kind.HANG if hangs else None


class Excess(NamedTuple):
    """What a worker holds too much of. It is only suspected where the memory may be that of other processes."""

    note: str
    is_suspected: bool


def excess(pid: int, limits: Limits, shared_before: int) -> Excess | None:
    """What a worker holds more of than a subject can need, if anything. `shared_before` is what the whole machine
    shared when the worker began, in bytes."""
    process = Path(f"/proc/{pid}")
    try:
        threads, held = usage.threads(process), usage.held_bytes(process)
    except OSError:
        return None  # it has ended, or closes what is looked at
    # Shared memory in no table any more, such as of a memfd that is mapped, closed and never touched: whose it is the
    # kernel tells nobody, but how much the whole machine holds. What is given back at its end shows it.
    unseen = usage.machine_shared_bytes() - shared_before
    if max(held, unseen) > limits.memory_bytes:
        note = f"takes more than {limits.memory_bytes / (1 << 30):g} GiB of memory"
        return Excess(note, is_suspected=held <= limits.memory_bytes)
    return Excess(f"starts more than {_THREADS} threads", is_suspected=False) if threads > _THREADS else None
