"""Ratios of two pieces of work that take turns: the median of many pairs, which a busy machine disturbs little.

Work is measured by the processor time of its thread. pyperf would measure each piece by itself, in other processes, and
a change of the machine's speed between the two would change the ratio.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from core_functions import core_function
from places import CHECKOUT

from vfio_verify import _core, _world
from vfio_verify.errors import HarnessError
from vfio_verify.generate.sweep import fault_plans
from vfio_verify.judge import judge
from vfio_verify.subject.driver import find_compiler
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import EVENT, Observation
from vfio_verify.worker import native, wire

FEW = 16
"""Segments of the small layout."""
_MANY_PLANS = 3
"""Runs of the large layout in one request."""

_SPARE_BYTES = 4 << 20
"""What the world needs in a reply beyond the records: room for one more mapping of any shape."""


def core_ratio(segments: int, rounds: int, pairs: int) -> float:
    """The core's time for a layout, divided by that of the bare system calls. One piece of work is `rounds` rounds."""
    with _device_file(segments) as fd:
        return ratio(
            lambda: _core_time(fd, segments, rounds), lambda: _bare_time(fd, segments, rounds, touch=False), pairs
        )


def observed_ratio(calls: int, plans: int, pairs: int) -> float:
    """The world's time for runs of `calls` calls, divided by that of as many bare layouts with a read of each page.

    All that is observed, and what the harness does for it, counts. A request has `plans` runs, over which its own cost
    is spread.
    """
    _world.use_core()
    request = wire.pack_request(alternate_pages(FEW), [()] * plans, native.TWICE if calls == 2 else 0)
    with _device_file(FEW) as fd:
        return ratio(
            lambda: _observed_time(request, FEW, plans),
            lambda: _bare_time(fd, FEW, calls * plans, touch=True),
            pairs,
        )


def sweep_ratio(sweeps: int, pairs: int) -> float:
    """The time for all faulty runs of `sweeps` sweeps, observed and judged, divided by that for as many faultless runs.
    Each sweep has other errnos."""
    _world.use_core()
    case = alternate_pages(FEW)
    (faultless,) = _seen_of(case, [()])
    plans: list[tuple[Fault, ...]] = [plan for turn in range(1, 1 + sweeps) for plan in fault_plans(faultless, turn)]
    return ratio(lambda: _judged_time(case, plans), lambda: _judged_time(case, [()] * len(plans)), pairs)


def growth(many: int, plans: int, pairs: int) -> float:
    """The world's time for a segment of a layout with `many`, divided by that for one of a small layout.

    A request has `plans` runs of the small layout. Of the large one the world compares a sample of the pages, as in a
    check.
    """
    _world.use_core()
    small = wire.pack_request(alternate_pages(FEW), [()] * plans, 0)
    large = wire.pack_request(alternate_pages(many), [()] * _MANY_PLANS, 0)
    return ratio(
        lambda: _observed_time(large, many, _MANY_PLANS) / (_MANY_PLANS * many),
        lambda: _observed_time(small, FEW, plans) / (plans * FEW),
        pairs,
    )


def alternate_pages(segments: int) -> Case:
    """The layout of loops.c as a case."""
    return Case(
        devices=(Device((Region(0, 2 * segments * PAGE),)),),
        ram_blocks=(RamBlock(0, 0, 0),),
        iovec=tuple(Segment(0, 2 * i * PAGE, PAGE) for i in range(segments)),
        total_size=segments * PAGE,
    )


def ratio(work: Callable[[], float], base: Callable[[], float], pairs: int) -> float:
    """The median of work() / base(). They alternate in going first; the first pair is a warm-up."""
    ratios = []
    for pair in range(pairs + 1):
        if pair % 2:
            above, below = work(), base()
        else:
            below, above = base(), work()
        ratios.append(above / below)
    return statistics.median(ratios[1:])


# ---- the world's time, in nanoseconds -------------------------------------------------------------------------------


def _judged_time(case: Case, plans: Sequence[Sequence[Fault]]) -> int:
    """The time in which a case is run under each fault plan, observed and judged."""
    start = time.thread_time_ns()
    expected = expect(case)
    violations = [
        judge(case.with_faults(*plan), expected, seen).violations
        for plan, seen in zip(plans, _seen_of(case, plans), strict=True)
    ]
    taken = time.thread_time_ns() - start
    if any(violations):
        raise HarnessError("the core does not pass the benchmark's sweep")
    return taken


def _seen_of(case: Case, plans: Sequence[Sequence[Fault]]) -> list[Observation]:
    """Runs of a case under fault plans in this process. HarnessError: not all of them finished."""
    request, room = wire.pack_request(case, plans, 0), _room(len(plans), len(case.iovec))
    reply, finished, changes = _world.run(request, room)
    if finished != len(plans):
        raise HarnessError(f"the world finishes {finished} runs of {len(plans)}")
    return wire.unpack_reply(memoryview(reply), finished, changes)


def _observed_time(request: bytes, segments: int, plans: int) -> int:
    """The time in which the world answers a request of `plans` runs with `segments` segments each."""
    room = _room(plans, segments)
    start = time.thread_time_ns()
    reply, finished, changes = _world.run(request, room)
    taken = time.thread_time_ns() - start
    seen = wire.unpack_reply(memoryview(reply), min(finished, 1), changes)
    sound = finished == plans and not changes and seen[0].mapped and seen[0].pages_compared
    if not sound or seen[0].differences or seen[0].events_dropped:
        raise HarnessError("the world does not observe the benchmark's own layout as it should")
    return taken


def _room(runs: int, segments: int) -> int:
    """The bytes of a reply: for each segment a look-up, an mmap and its undoing in the trace, and a run of pages.

    More would cost more, since it is fresh memory; a worker keeps its reply's memory.
    """
    return runs * (2048 + segments * (3 * EVENT.size + 48)) + _SPARE_BYTES


# ---- the time of the loops in C, in nanoseconds ---------------------------------------------------------------------


def _core_time(fd: int, segments: int, rounds: int) -> int:
    map_it, release = core_function("core_map", ctypes.c_int), core_function("core_release", ctypes.c_int)
    return loop_time("core_time", map_it, release, ctypes.py_object(_core.Placeholder()), fd, segments, rounds)


def _bare_time(fd: int, segments: int, rounds: int, *, touch: bool) -> int:
    return loop_time("bare_time", fd, segments, rounds, touch)


def loop_time(name: str, *arguments: object) -> int:
    function = _loops()[name]
    function.restype = ctypes.c_int64
    taken: int = function(*arguments)
    if taken < 0:
        raise HarnessError(f"{name}() of loops.c fails: {-taken}")
    return taken


@functools.cache
def _loops() -> ctypes.CDLL:
    """loops.c, built as setup.py builds the core."""
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        library = Path(directory, "loops.so")
        flags = ("-std=gnu11", "-O2", "-Wall", "-fno-omit-frame-pointer", "-shared", "-fPIC")
        source = Path(__file__).with_name("loops.c")
        subprocess.run([*find_compiler(), *flags, f"-I{CHECKOUT / 'pyx'}", "-o", library, source], check=True)
        return ctypes.CDLL(str(library))


@contextlib.contextmanager
def _device_file(segments: int) -> Iterator[int]:
    """A file with all pages of the layout present."""
    fd = os.memfd_create("vfio-verify-bench", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, 2 * segments * PAGE)
        for segment in range(segments):
            os.pwrite(fd, bytes(PAGE), 2 * segment * PAGE)
        yield fd
    finally:
        os.close(fd)
