"""What the commands cost as a user meets them: how soon they answer, what a second process gains, what they hold."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vfio_verify.campaign.options import Options
from vfio_verify.corpus.entry import Entry
from vfio_verify.errors import HarnessError
from vfio_verify.generate.strategies import run_packed_cases
from vfio_verify.search.budget import Budget
from vfio_verify.search.fuzz import fuzz
from vfio_verify.search.state import Finding
from vfio_verify.search.watcher import SearchProgress
from vfio_verify.subject.subject import open_subject

_SAMPLE_SECONDS = 0.25
_WARM, _LATE = 4, 4
"""Of what is sampled while a search runs: the fraction after which it counts as warm, and the fraction at its end."""


def command_seconds(*arguments: str) -> float:
    """A command from its start to its end. HarnessError: a status other than 0."""
    start = time.monotonic()
    _ended_well(subprocess.run(_command(arguments), capture_output=True, text=True, check=False))
    return time.monotonic() - start


def command_work(*arguments: str) -> float:
    """Processor seconds of such a command: what it takes where nothing else runs."""
    before = os.times()
    command_seconds(*arguments)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def memory_growth(arguments: Sequence[str], memory: Callable[[int], int]) -> float:
    """The memory of a command and its descendants at its end, by that when it was warm: medians of many samples."""
    samples = []
    with subprocess.Popen(_command(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None:
                samples.append(memory(process.pid))
                time.sleep(_SAMPLE_SECONDS)
            assert process.stderr is not None  # it is a pipe
            _ended_well(subprocess.CompletedProcess(arguments, process.returncode, "", process.stderr.read()))
        except BaseException:
            process.terminate()
            raise
    samples = [sample for sample in samples[:-1] if sample]  # of the last, some may have ended already
    part = max(1, len(samples) // _LATE)
    warm, late = samples[len(samples) // _WARM :][:part], samples[-part:]
    if not warm:
        raise HarnessError("the memory of a search cannot be measured: /proc/PID/smaps_rollup says nothing")
    return statistics.median(late) / statistics.median(warm)


def search_rate(jobs: int, first: int, last: int) -> float:
    """Layouts a second of a search on the core, from the `first` layout that is done to the `last`: once all processes
    are started, and before any has nothing more to do."""
    watcher = _Watcher()
    more = last * jobs // 8  # so that no process is idle when the last one is counted
    with open_subject("core") as subject:
        fuzz(subject, Options(jobs=jobs), Budget(layouts=last + more), watcher)
    return (last - first) / (watcher.when(last) - watcher.when(first))


class _Watcher:
    """Notes how many layouts are done when."""

    def __init__(self) -> None:
        self._seen: list[tuple[int, float]] = [(0, 0.0)]

    def found(self, finding: Finding) -> None:
        raise HarnessError(f"the core violates {finding.violation.clause}")

    def note(self, text: str) -> None:
        raise HarnessError(f"a search on the core has something to tell: {text}")

    def tick(self, progress: SearchProgress) -> None:
        if progress.new_layouts > self._seen[-1][0]:
            self._seen.append((progress.new_layouts, progress.elapsed))

    def when(self, layouts: int) -> float:
        """In between of two moments, as if work went on evenly."""
        for (few, before), (many, after) in zip(self._seen, self._seen[1:], strict=False):
            if few <= layouts <= many:
                return before + (after - before) * (layouts - few) / (many - few)
        raise HarnessError(f"a search ended before {layouts} layouts were run")


def write_cases(directory: Path, count: int) -> None:
    """So many files, each with a case as a campaign runs them."""
    names = itertools.count()  # those of their content would be fewer: some small cases are drawn twice
    run_packed_cases(lambda case: _write(directory / f"{next(names):06}.json", Entry(case)), 0, count)


def _write(path: Path, entry: Entry) -> None:
    path.write_bytes(entry.to_json())


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "vfio_verify", *arguments]


def _ended_well(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise HarnessError(f"a command ended with status {done.returncode}: {done.stderr.strip()}")
