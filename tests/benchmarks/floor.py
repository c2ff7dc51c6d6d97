"""What a check cannot do without: the mappings that its runs make, made again with nothing around them.

The calls that the kernel answered are taken from what was observed, and a loop in loops.c makes them in the same order.
Calls that failed, look-ups, the reading of pages, second calls and what follows the layouts are not in it.
"""

from __future__ import annotations

import array
import ctypes
import os
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.campaigns import children_seconds, command_work
from benchmarks.pairs import loop_time, ratio

from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import run_shard
from vfio_verify.campaign.shards import shards
from vfio_verify.generate.packed import packed_cases
from vfio_verify.generate.sweep import fault_plans
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.case import PAGE
from vfio_verify.values.observation import MAP_FIXED, STEPS, Observation
from vfio_verify.worker.worker import Ran, Worker

_MMAP, _MUNMAP, _MPROTECT = (STEPS.index(step) for step in ("mmap", "munmap", "mprotect"))
_FAILED = (1 << 64) - 1
_LARGEST_FILE = (1 << 63) - PAGE


class Calls:
    """Calls of mmap(2), munmap(2) and mprotect(2) in the order in which they were made."""

    def __init__(self) -> None:
        self._words = array.array("Q")

    def add(self, seen: Observation) -> None:
        """Those of a run, and at its end an munmap of each reservation that it has left."""
        held: dict[int, int] = {}
        for event in seen.trace():
            if event.result == _FAILED or event.step not in (_MMAP, _MUNMAP, _MPROTECT):
                continue
            address, length, protection, flags, _, offset = event[2:8]
            if event.step == _MMAP and not flags & MAP_FIXED:
                address = event.result
                held[address] = length
            elif event.step == _MUNMAP and held.get(address) == length:
                del held[address]
            self._words.extend((event.step, address, length, protection, flags, offset))
        for address, length in held.items():
            self._words.extend((_MUNMAP, address, length, 0, 0, 0))

    def seconds(self) -> float:
        """The processor time that they take."""
        fd = os.memfd_create("vfio-verify-bench", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, _LARGEST_FILE)
            words, count = self._words.buffer_info()
            return loop_time("calls_time", ctypes.c_void_p(words), ctypes.c_size_t(count // 6), fd) / 1e9
        finally:
            os.close(fd)


def sweep_over_floor(layouts: int, pairs: int) -> float:
    """A worker's processor time for the core's runs of layouts under all single faults, divided by that of their
    mappings. What it takes to start a worker is not in it."""
    calls, sweeps = Calls(), []
    with Worker() as worker:
        for turn, case in enumerate(packed_cases(0, layouts)):
            (faultless,) = worker.runs(case)
            plans = [(), *fault_plans(faultless.seen, turn)]
            for one in worker.runs(case, plans):
                calls.add(one.seen)
            sweeps.append((case, plans))

    def seconds(times: int) -> float:
        start = children_seconds()
        with Worker() as worker:
            for case, plans in sweeps * times:
                worker.runs(case, plans)
        return children_seconds() - start

    return ratio(lambda: seconds(2) - seconds(1), calls.seconds, pairs)


def check_over_floor(subject: Path, layouts: int, pairs: int) -> float:
    """The processor time of a check, divided by that of the mappings of its layouts' runs."""
    calls, runs = Calls(), Worker.runs

    def recorded(worker: Worker, *arguments: Any, **options: Any) -> list[Ran]:
        ran = runs(worker, *arguments, **options)
        for one in ran:
            calls.add(one.seen)
        return ran

    options = Options(layouts, jobs=1)
    with mock.patch.object(Worker, "runs", recorded), open_subject(str(subject)) as opened:
        for part in shards(options):
            run_shard(opened, options, part)
    return ratio(lambda: command_work("check", subject, "--examples", layouts, "--jobs", 1), calls.seconds, pairs)
