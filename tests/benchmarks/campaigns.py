"""The cost of whole commands: how soon they answer, what a second process gains, how much memory they hold."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.pairs import alternate_pages
from commands import command

from vfio_verify.campaign.options import Options
from vfio_verify.corpus.entry import Entry
from vfio_verify.errors import HarnessError
from vfio_verify.generate.packed import packed_cases
from vfio_verify.search.budget import Budget
from vfio_verify.search.fuzz import fuzz
from vfio_verify.search.state import Finding
from vfio_verify.search.watcher import SearchProgress
from vfio_verify.subject.subject import open_subject
from vfio_verify.worker.worker import Worker

SUBJECT = Path(__file__).with_name("subject.c")


# ---- time -----------------------------------------------------------------------------------------------------------


def command_seconds(repeats: int, *arguments: object) -> float:
    """The median duration of a command, measured by pyperf. HarnessError: its status is not 0."""
    import pyperf

    command_work(*arguments)  # a warm-up; and pyperf would not say why a command fails
    # Else pyperf takes most environment variables away, and keeps its processes on isolated processors.
    here = ("--copy-env", f"--affinity={','.join(map(str, os.sched_getaffinity(0)))}")
    once = ("--quiet", "--processes=1", "--warmups=0", "--loops=1", f"--values={repeats}")
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        times = f"{directory}/times.json"
        timing = [sys.executable, "-P", "-m", "pyperf", "command", *here, *once, f"--output={times}", "--"]
        subprocess.run([*timing, *command(*arguments)], stdout=subprocess.DEVNULL, check=True)
        return float(pyperf.Benchmark.load(times).median())


def replay_seconds(repeats: int, count: int, *arguments: object) -> float:
    """The duration of a replay of `count` kept cases, which are those of a campaign."""
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        for number, case in enumerate(packed_cases(0, count)):
            # By numbers: some small cases are drawn twice.
            Path(directory, f"{number:06}.json").write_bytes(Entry(case).to_json())
        return command_seconds(repeats, "replay", directory, *arguments)


def command_work(*arguments: object) -> float:
    """The processor seconds that a command takes. HarnessError: its status is not 0."""
    before = children_seconds()
    with _running(*arguments):
        pass
    return children_seconds() - before


def children_seconds() -> float:
    """The processor time of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare_ratio(first: Path, second: Path, *arguments: object) -> float:
    """The duration of a comparison of two subjects that conform, divided by that of a check of each."""

    def seconds(*words: object) -> float:
        start = time.monotonic()
        with _running(*words, *arguments):
            pass
        return time.monotonic() - start

    return seconds("compare", first, second) / (seconds("check", first) + seconds("check", second))


def first_violation_seconds(subject: Path, *arguments: object) -> float:
    """From the start of a check of a C subject until it says "found"; the subject is compiled in between."""
    start = time.monotonic()
    with _running("check", subject, *arguments, status=1) as process:
        assert process.stderr is not None  # it is a pipe
        for line in process.stderr:
            if line.startswith("found: "):
                return time.monotonic() - start
    raise HarnessError("a check of the benchmark's faulty subject finds nothing")


def crashing_rate(crashes: int) -> float:
    """Cases a second on one worker, where a case that maps and a case that ends the process alternate."""
    cases = [alternate_pages(n) for n in (1, 2)]
    head = "    char *base;\n\n"
    crash = "    if (iov_cnt % 2 == 0) {\n        *(volatile int *)0 = 1;\n    }\n"
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        source = Path(directory, SUBJECT.name)
        source.write_text(SUBJECT.read_text(encoding="ascii").replace(head, head + crash), encoding="ascii")
        with open_subject(str(source)) as subject, Worker(subject.library) as worker:
            start = time.monotonic()
            deaths = sum(worker.run(case, [()])[0].death is not None for _ in range(crashes) for case in cases)
            seconds = time.monotonic() - start
            if deaths != crashes or worker.restarts != crashes:
                raise HarnessError(f"of {crashes} crashes {deaths} were told, by {worker.restarts} restarts")
    return 2 * crashes / seconds


def search_gain(jobs: int, first: int, last: int) -> float:
    """The rate of a search with `jobs` processes, divided by that with one."""
    return _search_rate(jobs, first, last) / _search_rate(1, first, last)


def _search_rate(jobs: int, first: int, last: int) -> float:
    """Layouts a second of a search on the core, from the `first` finished layout to the `last`: after all processes
    have started, and before one of them runs out of work."""
    watcher = _Watcher()
    more = last * jobs // 8  # so that no process is idle when the last one is counted
    with open_subject("core") as subject:
        fuzz(subject, Options(jobs=jobs), Budget(layouts=last + more), watcher)
    return (last - first) / (watcher.when(last) - watcher.when(first))


class _Watcher:
    """Notes when how many layouts were finished."""

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
        """The second at which so many layouts were finished, interpolated between two ticks."""
        for (few, before), (many, after) in itertools.pairwise(self._seen):
            if few <= layouts <= many:
                return before + (after - before) * (layouts - few) / (many - few)
        raise HarnessError(f"a search ended before {layouts} layouts were run")


# ---- memory ---------------------------------------------------------------------------------------------------------


def peak_megabytes(*arguments: object) -> float:
    """The most memory that a command holds at a time."""
    return max(_memory_samples(0.02, *arguments)) / 1e6


def search_growth(*arguments: object) -> float:
    """The memory of a search on the core at its end, divided by that when it is warm."""
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as corpus:
        samples = _memory_samples(0.25, "fuzz", "core", *arguments, "--corpus", corpus)
    return growth(samples[:-1])  # of the last, some processes may have ended already


def growth(samples: Sequence[int]) -> float:
    """The median of the last quarter of the samples, divided by that of the second: the first is warming up."""
    part = max(1, len(samples) // 4)
    return statistics.median(samples[-part:]) / statistics.median(samples[len(samples) // 4 :][:part])


def _memory_samples(interval: float, *arguments: object) -> list[int]:
    """The bytes that a command holds, sampled every `interval` seconds until it ends."""
    samples = []
    with _running(*arguments) as process:
        while process.poll() is None:
            samples.append(held_bytes(process.pid))
            time.sleep(interval)
    samples = [sample for sample in samples if sample]
    if not samples:
        raise HarnessError("the memory of a command cannot be measured: /proc/PID/smaps_rollup says nothing")
    return samples


def held_bytes(root: int) -> int:
    """Bytes that a process and its descendants hold: their share of what they map, and each of their memfds once."""
    import psutil

    total = 0
    files: dict[tuple[int, int], int] = {}
    for pid in (root, *(child.pid for child in psutil.Process(root).children(recursive=True))):
        proc = Path(f"/proc/{pid}")
        # A process may end at any time, and one that has ended holds nothing.
        with contextlib.suppress(OSError):
            sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", (proc / "smaps_rollup").read_text(), re.MULTILINE))
            total += (int(sizes["Pss"]) - int(sizes["Pss_Shmem"])) << 10  # the latter is in the memfds
            for link in (proc / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(link).startswith("/memfd:"):
                        status = link.stat()
                        files[status.st_dev, status.st_ino] = status.st_blocks * 512
    return total + sum(files.values())


# ---- processes ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(*arguments: object, status: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process of its own. HarnessError: it ends with another status."""
    with subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
            complaint = process.communicate()[1]
        except BaseException:
            process.terminate()
            raise
    if process.returncode != status:
        raise HarnessError(f"a command ended with status {process.returncode}, not {status}: {complaint.strip()}")
