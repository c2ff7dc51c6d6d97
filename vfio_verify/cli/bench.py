"""What verifying costs: the figures that the project promises, each beside its target.

What is a matter of a machine's speed is measured as a ratio: two pieces of work in turn, in pairs, and the
median of the pairs' ratios. They are compared by the processor time of the thread that does them, so that a
busy machine disturbs them little. Campaigns are timed as a user would time them: by the clock, from the start
of their process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from vfio_verify import _bench, _world
from vfio_verify.cli.bench_commands import command_seconds, command_work, memory_growth, search_rate, write_cases
from vfio_verify.errors import HarnessError
from vfio_verify.generate.sweep import fault_plans
from vfio_verify.judge import judge
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import EVENT, Observation
from vfio_verify.worker import wire
from vfio_verify.worker.usage import stat_fields

_SPARE_BYTES = 4 << 20
"""What the world wants free in a reply beyond the records: room for one more mapping of any shape."""

_SAMPLE_SECONDS = 0.02
_AT_LEAST = ("/s", "x as fast")
"""Units of what is to be large."""


class Row(Struct, frozen=True):
    """One figure. It is met when `measured` is not above `target`, or not below it where the unit is a rate ("/s") or
    a gain ("x as fast"). Both are in `unit`, "x" for a ratio."""

    what: str
    measured: float
    target: float
    unit: str
    met: bool


class _Scale(NamedTuple):
    """How much is measured."""

    core: tuple[tuple[int, int, int], ...]
    """Segments, rounds in one piece of work, pairs."""
    plans: int
    """Runs of a case in one request; what a request costs once is spread over them."""
    pairs: int
    sweeps: int
    """Of one layout, each with other errnos."""
    many: int
    """Segments of the large layout."""
    many_pairs: int
    examples: int
    repeats: int
    seeds: int
    crashes: int
    searched: tuple[int, int]
    """Layouts between which a search is timed."""
    watched: int
    """Layouts of the search whose memory is sampled."""
    kept: int
    """Cases that are replayed."""


_FULL = _Scale(
    core=((1, 64, 400), (16, 8, 400), (1000, 1, 60), (30_000, 1, 9)),
    plans=1000,
    pairs=15,
    sweeps=8,
    many=30_000,
    many_pairs=5,
    examples=1000,
    repeats=3,
    seeds=4,
    crashes=500,
    searched=(250, 2250),
    watched=6000,
    kept=10_000,
)
_QUICK = _Scale(
    core=((1, 64, 20), (16, 8, 20), (1000, 1, 5)),
    plans=50,
    pairs=3,
    sweeps=1,
    many=1000,
    many_pairs=3,
    examples=20,
    repeats=1,
    seeds=1,
    crashes=20,
    searched=(10, 50),
    watched=250,
    kept=100,
)
_FEW, _MANY_PLANS, _JOBS = 16, 3, 2
_COMMANDS = ((), *((name,) for name in ("check", "fuzz", "replay", "merge", "spec", "bench")))


def run(quick: bool = False) -> Iterator[Row]:
    """The rows, each as soon as it is measured: some minutes, or half of one with `quick`.

    Quick figures come from less work and smaller layouts, and prove nothing. HarnessError: what was to be
    measured did not happen. The signal handlers for SIGSEGV and SIGBUS are the world's afterwards.
    """
    scale = _QUICK if quick else _FULL
    for segments, rounds, pairs in scale.core:
        name = f"core / bare calls, {segments:,} segment{'s' * (segments > 1)}"
        yield _row(name, _core_ratio(segments, rounds, pairs), 1.05)
    _world.use_core()
    yield _row(f"observed / bare case, {_FEW} segments", _observed_ratio(scale, calls=1), 1.6)
    yield _row("with a second call / two bare cases", _observed_ratio(scale, calls=2), 1.6)
    yield _row(f"a faulty run of a sweep / a faultless one, {_FEW} segments", _sweep_ratio(scale), 1.3)
    yield _row(f"a segment observed among {scale.many:,} / among {_FEW}", _growth(scale), 1.3)
    arguments = ("--examples", str(scale.examples), "--jobs", str(_JOBS))
    how = f"{scale.examples:,} layouts, {_JOBS} jobs"
    yield _row(f"check core, {how}", _median(lambda: _check_seconds(arguments), scale.repeats), 10, "s")
    # Enough layouts for several shards; what comes after the first one is not measured.
    short = ("--examples", str(min(scale.examples, 100)), "--jobs", str(_JOBS))
    found = _median(lambda: _candidate_seconds(short), scale.repeats)
    yield _row("first violation in a C subject", found, 3, "s")
    # How large the largest layout is depends on the seed.
    peak = max(_peak_megabytes((*arguments, "--seed", str(seed))) for seed in range(scale.seeds))
    yield _row(f"peak memory, {how}", peak, 200, "MB")
    rate = _median(lambda: _crashing_rate(scale.crashes), scale.repeats)
    yield _row("cases a second when every other one crashes", rate, 200, "/s")
    yield from _of_commands(scale)


def _of_commands(scale: _Scale) -> Iterator[Row]:
    helps = (functools.partial(command_work, *words, "--help") for words in _COMMANDS)
    yield _row(
        "--help of the slowest command, processor time",
        max(_median(help_, scale.repeats) for help_ in helps),
        0.15,
        "s",
    )
    first = _median(lambda: command_seconds("check", "core", "--examples", "1"), scale.repeats)
    yield _row("check core, one layout, start to end", first, 1, "s")
    gain = _median(lambda: search_rate(_JOBS, *scale.searched) / search_rate(1, *scale.searched), scale.repeats)
    yield _row(f"fuzz core, {_JOBS} jobs against one, layouts a second", gain, 1.8, "x as fast")
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        search = ("fuzz", "core", "--examples", str(scale.watched), "--jobs", str(_JOBS), "--corpus", directory)
        yield _row(f"memory of fuzz core, {scale.watched:,} layouts, late / warm", memory_growth(search, _memory), 1.1)
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        write_cases(Path(directory), scale.kept)
        seconds = _median(lambda: command_seconds("replay", directory, "--jobs", str(_JOBS)), scale.repeats)
        yield _row(f"replay of {scale.kept:,} kept cases, {_JOBS} jobs", seconds, 10, "s")


def main(quick: bool = False) -> list[Row]:
    """All rows of `run`."""
    return list(run(quick))


def print_rows(rows: Sequence[Row], console: Console) -> None:
    """Write the rows as a table."""
    table = Table(box=box.ASCII2)
    table.add_column("figure")
    for name in ("measured", "target", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        measured = f"{row.measured:.2f} {row.unit}"
        bound = ">=" if row.unit in _AT_LEAST else "<="
        table.add_row(row.what, measured, f"{bound} {row.target:g} {row.unit}", "met" if row.met else "MISSED")
    console.print(table)


def _row(what: str, measured: float, target: float, unit: str = "x") -> Row:
    return Row(what, measured, target, unit, measured >= target if unit in _AT_LEAST else measured <= target)


# ---- ratios ---------------------------------------------------------------------------------------------


def _ratio(work: Callable[[], float], base: Callable[[], float], pairs: int) -> float:
    """The median of work() / base(). Who goes first alternates; the first pair only warms up."""
    ratios = []
    for pair in range(pairs + 1):
        if pair % 2:
            above, below = work(), base()
        else:
            below, above = base(), work()
        ratios.append(above / below)
    return statistics.median(ratios[1:])


def _core_ratio(segments: int, rounds: int, pairs: int) -> float:
    with _device_file(segments) as fd:
        return _ratio(
            lambda: _bench.core_time(fd, segments, rounds),
            lambda: _bench.bare_time(fd, segments, rounds, False),
            pairs,
        )


def _observed_ratio(scale: _Scale, calls: int) -> float:
    """Everything that is looked at, and what the harness does for it, is in the numerator."""
    request = _request(_FEW, scale.plans, wire.TWICE if calls == 2 else 0)
    with _device_file(_FEW) as fd:
        return _ratio(
            lambda: _observed_time(request, _FEW, scale.plans),
            lambda: _bench.bare_time(fd, _FEW, calls * scale.plans, True),
            scale.pairs,
        )


def _sweep_ratio(scale: _Scale) -> float:
    """One fault position of the whole sweep, observed and judged, against the same without a fault."""
    case = _alternate_pages(_FEW)
    (faultless,) = _seen(case, [()])
    plans: list[tuple[Fault, ...]] = [
        plan for turn in range(1, 1 + scale.sweeps) for plan in fault_plans(faultless, turn)
    ]
    return _ratio(lambda: _judged_time(case, plans), lambda: _judged_time(case, [()] * len(plans)), scale.pairs)


def _judged_time(case: Case, plans: Sequence[Sequence[Fault]]) -> int:
    """Nanoseconds in which so many runs of a layout are made, observed, and held against what is expected."""
    start = time.thread_time_ns()
    expected = expect(case)
    violations = [
        judge(case.with_faults(*plan), expected, seen).violations
        for plan, seen in zip(plans, _seen(case, plans), strict=True)
    ]
    taken = time.thread_time_ns() - start
    if any(violations):
        raise HarnessError("the core does not pass the benchmark's sweep")
    return taken


def _seen(case: Case, plans: Sequence[Sequence[Fault]]) -> list[Observation]:
    reply, finished, changes = _world.run(wire.pack_request(case, plans, 0), _room(len(plans), len(case.iovec)))
    return wire.unpack_reply(memoryview(reply), finished, changes)


def _growth(scale: _Scale) -> float:
    """Of the large layout the world compares a sample of the pages, as it does in a check."""
    few, many = _request(_FEW, scale.plans), _request(scale.many, _MANY_PLANS)
    return _ratio(
        lambda: _observed_time(many, scale.many, _MANY_PLANS) / (_MANY_PLANS * scale.many),
        lambda: _observed_time(few, _FEW, scale.plans) / (scale.plans * _FEW),
        scale.many_pairs,
    )


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


def _request(segments: int, plans: int, flags: int = 0) -> bytes:
    """The layout of pyx/_bench.pyx as a case, to be run `plans` times without a fault."""
    return wire.pack_request(_alternate_pages(segments), [()] * plans, flags)


def _alternate_pages(segments: int) -> Case:
    return Case(
        devices=(Device((Region(0, 2 * segments * PAGE),)),),
        ram_blocks=(RamBlock(0, 0, 0),),
        iovec=tuple(Segment(0, 2 * i * PAGE, PAGE) for i in range(segments)),
        total_size=segments * PAGE,
    )


def _observed_time(request: bytes, segments: int, plans: int) -> int:
    """Nanoseconds in which the world answers a request of `plans` runs of `segments` segments each."""
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
    """Bytes of a reply: for each segment a look-up, an mmap and its undoing in the trace, and a run of pages. A larger
    one would cost more, since it is fresh memory; a worker has its own for good."""
    return runs * (2048 + segments * (3 * EVENT.size + 48)) + _SPARE_BYTES


# ---- whole campaigns ------------------------------------------------------------------------------------


def _median(measure: Callable[[], float], repeats: int) -> float:
    return statistics.median(measure() for _ in range(repeats))


@contextlib.contextmanager
def _checking(subject: str, arguments: Sequence[str], status: int) -> Iterator[subprocess.Popen[str]]:
    """`vfio-verify check` in a process of its own, which is waited for. HarnessError: another status."""
    command = [sys.executable, "-P", "-m", "vfio_verify", "check", subject, *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
            complaint = _stream(process).read()
        except BaseException:
            process.terminate()
            raise
    if process.returncode != status:
        ended = f"a check ended with status {process.returncode}, not {status}"
        raise HarnessError(f"{ended}: {complaint.strip()}")


def _stream(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stderr is not None  # it is a pipe
    return process.stderr


def _check_seconds(arguments: Sequence[str]) -> float:
    start = time.monotonic()
    with _checking("core", arguments, 0):
        pass
    return time.monotonic() - start


def _candidate_seconds(arguments: Sequence[str]) -> float:
    """Until a check of a C subject says "found", its compilation included."""
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        subject = Path(directory, "subject.c")
        subject.write_text(_SUBJECT, encoding="ascii")
        start = time.monotonic()
        with _checking(str(subject), arguments, 1) as process:
            for line in _stream(process):
                if line.startswith("found: "):
                    return time.monotonic() - start
    raise HarnessError("a check of the benchmark's faulty subject finds nothing")


def _peak_megabytes(arguments: Sequence[str]) -> float:
    peak = 0
    with _checking("core", arguments, 0) as process:
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(_SAMPLE_SECONDS)
    if not peak:
        raise HarnessError("the memory of a check cannot be measured: /proc/PID/smaps_rollup says nothing")
    return peak / 1e6


def _memory(root: int) -> int:
    """Bytes of a process and its descendants: their share of what they map, and all of their memfds."""
    total = 0
    files: dict[tuple[int, int], int] = {}
    for pid in _family(root):
        # A process may end at any time, and one that has ended holds nothing.
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {name: int(rest.split()[0]) << 10 for name, rest in (line.split(":") for line in lines)}
            total += sizes["Pss"] - sizes["Pss_Shmem"]  # the latter is in the memfds
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(link).startswith("/memfd:"):
                        status = link.stat()
                        files[status.st_dev, status.st_ino] = status.st_blocks * 512
    return total + sum(files.values())


def _family(root: int) -> list[int]:
    """A process and its descendants, whatever their sessions."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry.name))
    family = [root]
    for pid in family:  # grows meanwhile
        family += children.get(pid, [])
    return family


def _crashing_rate(crashes: int) -> float:
    """Cases a second, on one worker, from request to answer: one that maps, one that ends its process, in turn."""
    from vfio_verify.subject.subject import open_subject
    from vfio_verify.worker.worker import Worker

    cases = [_alternate_pages(n) for n in (1, 2)]
    with tempfile.TemporaryDirectory(prefix="vfio-verify-bench-") as directory:
        source = Path(directory, "subject.c")
        crash = "    if (iov_cnt % 2 == 0) {\n        *(volatile int *)0 = 1;\n    }\n"
        head = "    int index;\n    char *base;\n\n"
        source.write_text(_SUBJECT.replace(head, head + crash), encoding="ascii")
        with open_subject(str(source)) as subject, Worker(subject.library) as worker:
            start = time.monotonic()
            deaths = sum(worker.run(case, [()])[0].death is not None for _ in range(crashes) for case in cases)
            seconds = time.monotonic() - start
            if deaths != crashes or worker.restarts != crashes:
                raise HarnessError(f"of {crashes} crashes {deaths} were told, by {worker.restarts} restarts")
    return 2 * crashes / seconds


# A helper as it might be posted, with one fault: after a failed overlay it unmaps what it has overlaid, and
# not the whole reservation.
_SUBJECT = r"""
/* Map the segments of a dmabuf's BAR memory at one contiguous address. */

static bool find_source(struct iovec *iov, unsigned int iov_cnt,
                        RAMBlock **block, Error **errp)
{
    ram_addr_t offset;
    unsigned int i;

    *block = NULL;
    for (i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (*block && rb != *block)) {
            error_setg(errp, "entry %u is not in the RAM block of the first", i);
            return false;
        }
        if (!iov[i].iov_len || iov[i].iov_len > rb->used_length - offset
            || (iov[i].iov_len | offset) % qemu_real_host_page_size()) {
            error_setg(errp, "entry %u has a bad length or offset", i);
            return false;
        }
        *block = rb;
    }
    if (!*block) {
        error_setg(errp, "no entries");
        return false;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info;
    VFIODevice *vbasedev;
    ram_addr_t offset;
    RAMBlock *block;
    size_t done = 0;
    unsigned int i;
    int index;
    char *base;

    if (!find_source(iov, iov_cnt, &block, errp)) {
        return false;
    }
    vbasedev = vfio_device_lookup(block->mr);
    index = vbasedev ? vfio_get_region_index_from_mr(block->mr) : -1;
    if (index < 0 || vfio_device_get_region_info(vbasedev, index, &info)) {
        error_setg(errp, "the memory belongs to no region of a VFIO device");
        return false;
    }
    if (iov_size(iov, iov_cnt) != total_size) {
        error_setg(errp, "the lengths do not add up to %zu bytes", total_size);
        return false;
    }
    base = mmap(NULL, total_size, PROT_NONE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        if (mmap(base + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vbasedev->fd, info->offset + block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(base, done);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = base;
    return true;
}
"""
