"""The world in C: what it records, fails, refuses to carry out and sees, with the core and with small C subjects."""

from __future__ import annotations

import errno
import mmap
import struct
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from one_worker import open_fds
from strategies import packed_cases
from subject_files import needs_compiler

from vfio_verify.generate.sweep import fault_plans
from vfio_verify.judge import judge
from vfio_verify.subject.compiler import WRAPPED
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.case import PAGE, Area, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import (
    BY_RULE,
    FAULTED,
    NOWHERE,
    OTHER,
    OUTSIDE,
    OWNED,
    READ,
    REFUSED,
    SHARED,
    STEPS,
    TOOK_AWAY,
    UNPLANNED,
    Event,
    Observation,
    Run,
)
from vfio_verify.values.words import call_text
from vfio_verify.worker import native, wire
from vfio_verify.worker.worker import Worker

MINUS_ONE = 2**64 - 1
RESERVING = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
OVERLAYING = mmap.MAP_SHARED | 0x10

DEVICE = Device((Region(0, 16 * PAGE), Region(2, 16 * PAGE, (Area(2 * PAGE, 4 * PAGE), Area(8 * PAGE, 4 * PAGE)))))
BLOCKS = (RamBlock(0, 0, 0), RamBlock(0, 2, 0), RamBlock(0, 2, 1), RamBlock(size=4 * PAGE))


def layout(*segments: tuple[int | None, int, int], total: int | None = None, **more: object) -> Case:
    """Segments as block, first page and number of pages."""
    iovec = tuple(Segment(block, first * PAGE, count * PAGE) for block, first, count in segments)
    return Case((DEVICE,), BLOCKS, iovec, sum(s.length for s in iovec) if total is None else total, **more)


TWO = layout((0, 0, 1), (0, 2, 2))


def run(worker: Worker, case: Case) -> Observation:
    (seen,) = worker.run(case)
    return seen


def steps(seen: Observation) -> list[str]:
    return [STEPS[event.step] for event in seen.trace()]


@pytest.fixture(scope="module")
def core():
    with Worker() as worker:
        yield worker


# ---- C subjects --------------------------------------------------------------------------------------------

HEAD = """
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"

#define RESERVE (MAP_SHARED | MAP_ANONYMOUS)
#define SAY(...) error_setg(call->errp, __VA_ARGS__)
#define P 4096ul
"""


def compiled(directory: Path, text: str) -> Path:
    """A subject whose entry the test writes itself; what it does is chosen by the total size."""
    (directory / "subject.c").write_text(HEAD + text)
    wrap = [f"-Wl,--wrap={name}" for name in WRAPPED]
    include = f"-I{files('vfio_verify') / 'include'}"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-fno-builtin", "-fPIC", "-shared", "-Wno-nonnull", include]
    subprocess.run(["cc", *flags, *wrap, "-o", "subject.so", "subject.c"], cwd=directory, check=True, timeout=60)
    return directory / "subject.so"


def worker_of(text: str):
    """A fixture: a worker that runs this subject."""

    @pytest.fixture(scope="module")
    def worker(tmp_path_factory):
        with Worker(compiled(tmp_path_factory.mktemp("subject"), text)) as worker:
            yield worker

    return worker


# ---- every step is recorded --------------------------------------------------------------------------------

caller = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    char *a = mmap(NULL, 8 * P, PROT_NONE, RESERVE, -1, 0), *b;
    int fd;

    mmap(a + P, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 3 * P);
    mmap64(a + 2 * P, 5, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 0);
    syscall(SYS_mmap, a + 3 * P, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 4 * P);
    mprotect(a + 4 * P, P, PROT_READ);
    madvise(a, P, MADV_DONTFORK);
    b = mremap(a + 7 * P, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, a + 6 * P);
    munmap(a, 2 * P);
    munmap(a + 2 * P, 6 * P);
    fd = dup(call->vbasedev->fd);
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    dup2(fd, 200);
    dup3(fd, 201, O_CLOEXEC);
    close(fd);
    close(200);
    close(201);
    close(-1);
    munmap(a, 0);
    mmap(NULL, 0, PROT_NONE, RESERVE, -1, 0);
    mmap((char *)((uintptr_t)call->iov & -P), P, PROT_NONE, RESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    SAY("%d", b == a + 6 * P);
}
"""
)


@needs_compiler
def test_every_call_is_recorded_in_order_with_its_arguments_and_its_answer(caller):
    seen = run(caller, TWO)
    trace = list(seen.trace())
    a = trace[0].result
    fd, new_fd = trace[1].a4, trace[9].result

    def event(step: str, *arguments: int, result: int = 0, error: int = 0, flags: int = 0) -> Event:
        asked = [argument % 2**64 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
        return Event(STEPS.index(step), flags, *asked, result % 2**64, error)

    expected = [
        event("mmap", 0, 8 * PAGE, 0, RESERVING, -1, 0, result=a),
        event("mmap", a + PAGE, PAGE, 1, OVERLAYING, fd, 3 * PAGE, result=a + PAGE, flags=OWNED),
        event("mmap", a + 2 * PAGE, 5, 1, OVERLAYING, fd, 0, result=a + 2 * PAGE, flags=OWNED),
        event("mmap", a + 3 * PAGE, PAGE, 1, OVERLAYING, fd, 4 * PAGE, result=a + 3 * PAGE, flags=OWNED),
        event("mprotect", a + 4 * PAGE, PAGE, 1, 10, flags=OWNED),
        event("other_call", a, PAGE, 10, 28, flags=OWNED),
        event("mremap", a + 7 * PAGE, PAGE, PAGE, 3, a + 6 * PAGE, result=a + 6 * PAGE, flags=OWNED),
        event("munmap", a, 2 * PAGE, flags=OWNED),
        event("munmap", a + 2 * PAGE, 6 * PAGE, flags=OUTSIDE | REFUSED),  # its last page moved away
        event("dup", fd, -1, result=new_fd),
        event("close", new_fd),
    ]
    # The arguments of mprotect and madvise end with the number of the system call, which differs by machine.
    trace = [e._replace(caller=NOWHERE) for e in trace]
    comparable = [e._replace(a3=0) if STEPS[e.step] in ("mprotect", "other_call", "dup") else e for e in trace]
    wanted = [e._replace(a3=0) if STEPS[e.step] in ("mprotect", "other_call", "dup") else e for e in expected]
    assert comparable[: len(wanted)] == wanted
    assert [(STEPS[e.step], e.a0, e.errno) for e in trace[len(wanted) + 1 : len(wanted) + 3]] == [
        ("dup", new_fd, 0),
        ("dup", new_fd, 0),
    ]
    assert [(STEPS[e.step], e.errno, e.flags) for e in trace[-4:]] == [
        ("close", errno.EBADF, UNPLANNED),
        ("munmap", errno.EINVAL, UNPLANNED),
        ("mmap", errno.EINVAL, UNPLANNED),
        ("mmap", errno.EEXIST, OUTSIDE | UNPLANNED),
    ]
    assert seen.message == b"1"
    assert (seen.pages_after, seen.fds_left, seen.fds_gone) == (seen.pages_before, 0, 0)


@needs_compiler
def test_counts_and_the_union_of_flags_are_those_of_the_trace(caller):
    seen = run(caller, TWO)
    assert seen.counts == tuple(steps(seen).count(step) for step in STEPS)
    union = 0
    for event in seen.trace():
        union |= event.flags
    assert seen.flags_union == union


def test_the_cores_look_ups_name_the_address_and_the_block(core):
    seen = run(core, layout((2, 0, 1), (2, 3, 1)))
    first, second = (event for event in seen.trace() if STEPS[event.step] == "find_block")
    assert (first.a0, second.a0) == (seen.block_hosts[2], seen.block_hosts[2] + 3 * PAGE)
    assert (first.result, second.result) == (2, 2)
    nowhere = run(core, layout((None, 0, 1)))
    assert [(STEPS[e.step], e.result, e.errno) for e in nowhere.trace()] == [("find_block", MINUS_ONE, errno.EFAULT)]
    assert not nowhere.mapped


# ---- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ENOMEM", "EINVAL", "EACCES", "EAGAIN", "EBADF", "ENODEV", "EPERM", "EOVERFLOW"])
@pytest.mark.parametrize("when", ["early", "late"])
def test_the_nth_mmap_fails_with_the_planned_errno_and_no_other_does(core, name, when):
    seen = run(core, TWO.with_faults(Fault("mmap", 2, name, when)))
    mmaps = [event for event in seen.trace() if STEPS[event.step] == "mmap"]
    late = TOOK_AWAY if when == "late" else 0
    assert [(e.errno, e.flags) for e in mmaps] == [(0, 0), (getattr(errno, name), OWNED | FAULTED | late)]
    assert not seen.mapped
    assert seen.pages_after == seen.pages_before


def test_a_reservation_that_fails_late_takes_nothing_away(core):
    """Without MAP_FIXED there is nothing that could be taken away."""
    (event,) = (e for e in run(core, TWO.with_faults(Fault("mmap", 1, when="late"))).trace() if e.step == 0)
    assert event.flags == FAULTED


def test_a_fault_beyond_the_last_step_never_fires(core):
    seen = run(core, TWO.with_faults(Fault("mmap", 4), Fault("munmap", 1), Fault("find_block", 3)))
    assert seen.mapped
    assert not seen.flags_union & FAULTED


repeater = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    int failed = 0;

    for (int i = 0; i < 5; i++) {
        failed = failed * 10 + (mmap(NULL, P, PROT_NONE, RESERVE, -1, 0) == MAP_FAILED ? errno : 0) % 10;
    }
    SAY("%05d", failed);
}
"""
)


@needs_compiler
def test_a_transient_fault_fires_once_and_a_persistent_one_from_then_on(repeater):
    once = TWO.with_faults(Fault("mmap", 2, "EACCES"))
    for_good = TWO.with_faults(Fault("mmap", 2, "EACCES", persistent=True))
    both = TWO.with_faults(Fault("mmap", 1, "EPERM"), Fault("mmap", 5, "ENOMEM"))
    assert errno.EACCES == 13
    assert [run(repeater, case).message for case in (once, for_good, both)] == [b"03000", b"03333", b"10002"]


leaver = worker_of(
    """
static int sockets[2];

__attribute__((constructor)) static void make_sockets(void) { socketpair(AF_UNIX, SOCK_STREAM, 0, sockets); }

/* The total's low digits say what is overlaid where: first page, number of pages, by whose leave. */
void vfio_verify_entry(struct vv_call *call)
{
    const unsigned long first = call->total_size % 10, count = call->total_size / 10 % 10, by = call->total_size / 100;
    char *a = mmap(NULL, 6 * P, PROT_NONE, RESERVE, -1, 0);
    int fd = by == 1 ? sockets[0] : call->vbasedev->fd;
    void *got;

    mmap(a + 2 * P, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 0);
    got = mmap(a + first * P, count * P - 5, PROT_READ, MAP_SHARED | MAP_FIXED, fd, by == 2 ? 99 * P : 0);
    SAY("%s", got == MAP_FAILED ? strerrorname_np(errno) : "mapped");
}
"""
)
BY_KERNEL, BY_DRIVER, BY_PLAN = 1, 2, 3


def really_late(descriptor: int) -> bool:
    """Does this kernel take away what MAP_FIXED covers before the socket refuses to be mapped?"""
    script = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
page = int(sys.argv[2])
a = libc.mmap(None, 3 * page, 0, 0x21, -1, 0)
assert libc.mmap(a + page, page, 1, 0x11, int(sys.argv[1]), 0) == 2 ** 64 - 1
starts = [int(line.partition("-")[0], 16) for line in open("/proc/self/maps")]
print(int(a + 2 * page in starts))
"""
    command = [sys.executable, "-P", "-c", script, str(descriptor), str(PAGE)]
    return subprocess.run(command, pass_fds=[descriptor], capture_output=True, check=True, timeout=20).stdout == b"1\n"


@pytest.fixture(scope="module")
def a_late_kernel():
    """A socket has an mmap method, and it always refuses: the one late failure that needs no privilege."""
    import socket

    one, other = socket.socketpair()
    with one, other:
        if not really_late(one.fileno()):
            pytest.skip("this kernel refuses to map a socket before it unmaps what MAP_FIXED covers")


@needs_compiler
@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_late_failure_leaves_the_hole_that_linux_leaves(leaver, a_late_kernel, first, count):
    if first + count > 6:
        return
    shapes = {}
    for by in (BY_KERNEL, BY_DRIVER, BY_PLAN):
        case = msgspec.structs.replace(TWO, total_size=by * 100 + count * 10 + first)
        plan = (Fault("mmap", 3, "ENODEV", "late"),) if by == BY_PLAN else ()
        seen = run(leaver, case.with_faults(*plan))
        assert seen.message == (b"EINVAL" if by == BY_DRIVER else b"ENODEV")
        shapes[by] = (seen.strays, seen.pages_after - seen.pages_before)
    assert shapes[BY_DRIVER] == shapes[BY_PLAN] == shapes[BY_KERNEL]
    left = {at // PAGE for stray in shapes[BY_PLAN][0] for at in range(stray.start, stray.end, PAGE)}
    assert left == set(range(6)) - set(range(first, first + count))
    assert shapes[BY_PLAN][1] == 6 - count


huge_leaver = worker_of(
    """
#include <linux/memfd.h>
#define H (2ul << 20)
static int huge;

__attribute__((constructor)) static void make_huge(void)
{
    huge = memfd_create("huge", MFD_HUGETLB | MFD_HUGE_2MB);
    if (huge >= 0 && ftruncate(huge, 64 * H) < 0) {
        huge = -1;
    }
}

/* The total's low digits say what is overlaid where: first huge page, number of them, by whose leave. */
void vfio_verify_entry(struct vv_call *call)
{
    const unsigned long first = call->total_size % 10, count = call->total_size / 10 % 10, by = call->total_size / 100;
    char *all = mmap(NULL, 7 * H, PROT_NONE, RESERVE | MAP_NORESERVE, -1, 0);
    char *a = (char *)(((uintptr_t)all + H - 1) & -H);
    void *got;

    munmap(all, (size_t)(a - all));
    munmap(a + 6 * H, (size_t)(all + H - a));
    mmap(a + 2 * H, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 0);
    mmap(a + 4 * H - P, 2 * P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 4 * P);
    got = mmap(a + first * H, count * H, PROT_READ, MAP_SHARED | MAP_FIXED, by == 3 ? call->vbasedev->fd : huge, 0);
    SAY("%s", huge < 0 ? "none" : got == MAP_FAILED ? strerrorname_np(errno) : "mapped");
}
"""
)


@needs_compiler
@pytest.mark.parametrize("count", [1, 2, 4, 6])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_huge_pages_that_are_not_there_leave_the_hole_of_a_late_failure(
    huge_leaver, alone_with_huge_pages, place, count
):
    """hugetlbfs reserves its pages in its mmap method, when what MAP_FIXED covers is gone; no page in the pool is the
    one such failure of a driver's for want of memory that anybody can have."""
    free = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    if not free.exists() or int(free.read_text()):
        pytest.skip("this kernel has no huge pages of 2 MiB, or has free ones")
    first = {"first": 0, "middle": (6 - count) // 2, "last": 6 - count}[place]
    shapes = {}
    for by in (BY_KERNEL, BY_PLAN):
        case = msgspec.structs.replace(TWO, total_size=by * 100 + count * 10 + first)
        plan = (Fault("mmap", 4, "ENOMEM", "late"),) if by == BY_PLAN else ()
        seen = run(huge_leaver, case.with_faults(*plan))
        if seen.message == b"none":
            pytest.skip("no memfd of huge pages can be made")
        assert seen.message == b"ENOMEM"
        # How far from the reservation's start the first huge page begins differs from run to run.
        ahead = -seen.base % (2 << 20)
        strays = tuple(Run(s.start - ahead, s.end - ahead, *s[2:]) for s in seen.strays)
        shapes[by] = (strays, seen.pages_after - seen.pages_before)
    assert shapes[BY_PLAN] == shapes[BY_KERNEL]
    left = sum(stray.end - stray.start for stray in shapes[BY_KERNEL][0])
    assert left == (6 - count) * (2 << 20)
    assert shapes[BY_KERNEL][1] == left // PAGE


@needs_compiler
def test_an_early_failure_leaves_everything_as_it_was(leaver):
    case = msgspec.structs.replace(TWO, total_size=BY_PLAN * 100 + 31)
    seen = run(leaver, case.with_faults(Fault("mmap", 3, "EINVAL")))
    placeholder = SHARED, OTHER, 0
    assert seen.message == b"EINVAL"
    assert seen.strays == (
        Run(0, 2 * PAGE, *placeholder),
        Run(2 * PAGE, 3 * PAGE, READ | SHARED, 0, 0),
        Run(3 * PAGE, 6 * PAGE, *placeholder),
    )


@needs_compiler
def test_what_a_subject_leaves_is_gone_before_the_next_run(leaver):
    case = msgspec.structs.replace(TWO, total_size=BY_PLAN * 100 + 31)
    seen = [run(leaver, case) for _ in range(3)]
    assert {s.pages_after - s.pages_before for s in seen} == {6}
    assert len({s.pages_before for s in seen} | {s.pages_end for s in seen}) == 1


# ---- nothing harmful is carried out ------------------------------------------------------------------------

HARM = {
    "MAP_FIXED over a RAM block": "mmap(block, P, PROT_NONE, RESERVE | MAP_FIXED, -1, 0) == block",
    "MAP_FIXED over the end of its own and what follows": (
        "mmap(a, 1ul << 26, PROT_NONE, RESERVE | MAP_FIXED | MAP_NORESERVE, -1, 0) == a"
    ),
    "MAP_FIXED over the stack": "mmap(stack, P, PROT_READ, RESERVE | MAP_FIXED, -1, 0) == stack",
    "MAP_FIXED over the library": "mmap(code, P, PROT_NONE, RESERVE | MAP_FIXED, -1, 0) == code",
    "MAP_FIXED over the iovec": "mmap(iov, P, PROT_NONE, RESERVE | MAP_FIXED, -1, 0) == iov",
    "munmap of a RAM block": "munmap(block, P) == 0",
    "munmap of everything from its own up": "munmap(a, 1ul << 40) == 0",
    "munmap of the stack": "munmap(stack, P) == 0",
    "munmap of the library": "munmap(code, P) == 0",
    "munmap of the iovec": "munmap(iov, P) == 0",
    "munmap by syscall()": "syscall(SYS_munmap, block, P) == 0",
    "mprotect of a RAM block": "mprotect(block, P, PROT_NONE) == 0",
    "mprotect of its own code": "mprotect(code, P, PROT_NONE) == 0",
    "madvise of a RAM block": "madvise(block, P, MADV_REMOVE) == 0",
    "mremap of a RAM block": "mremap(block, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, a) == MAP_FAILED",
    "mremap over a RAM block": "mremap(a, P, P, MREMAP_MAYMOVE | MREMAP_FIXED, block) == MAP_FAILED",
    "dup2 onto the device": "dup2(0, call->vbasedev->fd) == call->vbasedev->fd",
    "dup3 onto the device": "dup3(0, call->vbasedev->fd, O_CLOEXEC) == call->vbasedev->fd",
    "close of the device": "close(call->vbasedev->fd) == 0",
    "close of every descriptor": "close_all() == 0",
}
harmer = worker_of(
    """
static int close_all(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        close(fd);
    }
    return 0;
}

void vfio_verify_entry(struct vv_call *call)
{
    char *block = call->iov[0].iov_base, local;
    char *stack = (char *)((uintptr_t)&local & -P), *code = (char *)((uintptr_t)close_all & -P);
    char *iov = (char *)((uintptr_t)call->iov & -P);
    char *a = mmap(NULL, P, PROT_NONE, RESERVE, -1, 0);
    const uint64_t before = *(volatile uint64_t *)block;
    struct stat is, was;
    int answered = -1;

    fstat(call->vbasedev->fd, &was);
    switch (call->total_size) {
"""
    + "".join(f"    case {i}: answered = {text}; break;\n" for i, text in enumerate(HARM.values(), 1))
    + """
    }
    *(volatile uint64_t *)block += 0;
    SAY("%d %d %d", answered, *(volatile uint64_t *)block == before,
        fstat(call->vbasedev->fd, &is) == 0 && is.st_ino == was.st_ino);
}
"""
)


@needs_compiler
@pytest.mark.parametrize("harm", HARM)
def test_harm_is_recorded_and_answered_and_not_done(harmer, harm):
    case = msgspec.structs.replace(TWO, total_size=list(HARM).index(harm) + 1)
    seen = run(harmer, case)
    assert seen.death is None
    assert seen.message == b"1 1 1"
    assert seen.flags_union & OUTSIDE
    assert seen.flags_union & REFUSED
    assert seen.harness_changes == 0
    assert seen.pages_end == seen.pages_before
    assert (seen.fds_left, seen.fds_gone) == (0, 0)


own_fds = worker_of(
    """
#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

static int end_of(int (*make)(int *), int *rest)
{
    int ends[2] = {-1, -1};

    make(ends);
    *rest = ends[1];
    return ends[0];
}

static int pipe_of(int *ends) { return pipe2(ends, O_CLOEXEC); }
static int pair_of(int *ends) { return socketpair(AF_UNIX, SOCK_STREAM, 0, ends); }

void vfio_verify_entry(struct vv_call *call)
{
    int device = call->vbasedev->fd, rest = -1, fd;

    switch (call->total_size % 16) {
    case 0: fd = end_of(pipe_of, &rest); break;
    case 1: fd = end_of(pair_of, &rest); break;
    case 2: fd = eventfd(0, EFD_CLOEXEC); break;
    case 3: fd = memfd_create("own", MFD_CLOEXEC); break;
    case 4: fd = timerfd_create(CLOCK_MONOTONIC, 0); break;
    case 5: fd = epoll_create1(0); break;
    case 6: fd = open("/dev/null", O_RDONLY); break;
    case 7: fd = (int)syscall(SYS_dup, device); break;
    case 8: fd = fcntl(device, F_DUPFD_CLOEXEC, 300); break;
    case 9: fd = dup2(device, 400); break;
    default: fd = dup(device);
    }
    switch (call->total_size / 16) {
    case 0: SAY("%d", fd >= 0 && close(fd) == 0 && (rest < 0 || close(rest) == 0)); break;
    case 1: SAY("%d", close(fd)); break;        /* the rest stays */
    case 2: SAY("%d", fd >= 0); break;          /* all stay */
    case 3: close(fd), fd = close(fd); SAY("%d %d", fd, errno); close(rest); break;
    case 4: SAY("%d", close_range(fd, fd, 0)); close(rest); break;
    case 5: SAY("%d", (int)syscall(SYS_close_range, fd, fd, 0)); close(rest); break;
    default: SAY("%d", dup2(device, fd) == fd && close(fd) == 0); close(rest);
    }
}
"""
)


@needs_compiler
@pytest.mark.parametrize("kind", range(11))
def test_a_descriptor_that_was_not_open_before_the_call_is_its_own(own_fds, kind):
    """NO_LEAK: however it was opened, it may be closed, and is missed when it stays open."""
    pair = kind in (0, 1)
    before = open_fds(own_fds)
    for deed, said, left in (
        *((0, b"1", 0), (1, b"0", pair), (2, b"1", 1 + pair), (3, b"-1 9", 0), (4, b"0", 0), (5, b"0", 0)),
        (6, b"1", 0),
    ):
        seen = run(own_fds, msgspec.structs.replace(TWO, total_size=16 * deed + kind))
        assert (seen.message, seen.fds_left, seen.fds_gone) == (said, left, 0), deed
        astray = [e for e in seen.trace() if e.flags & OUTSIDE]
        assert [(STEPS[e.step], e.errno) for e in astray] == ([("close", errno.EBADF)] if deed == 3 else []), deed
        assert not seen.flags_union & REFUSED
    # What one run left does not stay for the next.
    assert open_fds(own_fds) == before
    assert own_fds.restarts == 0


@needs_compiler
def test_after_every_harm_the_same_worker_goes_on(harmer):
    for number in range(1, len(HARM) + 1):
        run(harmer, msgspec.structs.replace(TWO, total_size=number))
    assert harmer.restarts == 0


# ---- the device's own rules --------------------------------------------------------------------------------

asker = worker_of(
    """
/* Maps the first segment's length from the file offset that the total gives; privately if there is no errp. */
void vfio_verify_entry(struct vv_call *call)
{
    char *a = mmap(NULL, 64 * P, PROT_NONE, RESERVE | MAP_NORESERVE, -1, 0);
    int copy = dup(call->vbasedev->fd);
    int type = call->errp ? MAP_SHARED : MAP_PRIVATE;

    mmap(a, call->iov[0].iov_len, PROT_READ, type | MAP_FIXED, call->vbasedev->fd, (off_t)call->total_size);
    mmap(NULL, call->iov[0].iov_len, PROT_READ, type, copy, (off_t)call->total_size);
    close(copy);
}
"""
)
RULED = (
    *(Region(0, 4 * PAGE), Region(1, 4 * PAGE, mappable=False)),
    *(Region(2, 16 * PAGE, (Area(2 * PAGE, 4 * PAGE), Area(8 * PAGE, 4 * PAGE))), Region(3, 3 * PAGE + 1)),
)
ASKED = {
    # region, first page, pages: refused by vfio-pci's rule, refused by a driver that minds the areas
    (0, 0, 4): (False, False),
    (0, 3, 1): (False, False),
    (0, 3, 2): (True, True),
    (0, 4, 1): (True, True),
    (0, 0, 5): (True, True),
    (1, 0, 1): (True, True),
    (2, 2, 4): (False, False),
    (2, 3, 1): (False, False),
    (2, 8, 4): (False, False),
    (2, 0, 1): (False, True),
    (2, 1, 2): (False, True),
    (2, 5, 2): (False, True),
    (2, 2, 10): (False, True),
    (2, 15, 1): (False, True),
    (2, 15, 2): (True, True),
    (3, 3, 1): (False, False),
    (3, 3, 2): (True, True),
    (4, 0, 1): (True, True),
    (300, 0, 1): (True, True),
}


@needs_compiler
@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("rule", ["region", "areas"])
def test_a_device_refuses_what_vfio_pci_or_a_stricter_driver_refuses(asker, asked, rule):
    region, first, count = asked
    device = Device(RULED, rule)
    iovec = (Segment(0, 0, count * PAGE),)
    case = Case((device,), (RamBlock(0, 0, 0),), iovec, (region << 40) + first * PAGE)
    _, fixed, anywhere = (event for event in run(asker, case).trace() if event.step == 0)
    if ASKED[asked][rule == "areas"]:
        assert (fixed.errno, fixed.flags) == (errno.EINVAL, OWNED | BY_RULE | TOOK_AWAY)
        assert (anywhere.errno, anywhere.flags) == (errno.EINVAL, BY_RULE)
    else:
        assert (fixed.errno, fixed.flags) == (0, OWNED)
        assert (anywhere.errno, anywhere.flags) == (0, 0)


@needs_compiler
def test_a_device_is_never_mapped_privately(asker):
    case = Case((Device(RULED),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), 0, errp="null")
    _, fixed, anywhere = (event for event in run(asker, case).trace() if event.step == 0)
    assert fixed.errno == anywhere.errno == errno.EINVAL
    assert fixed.flags & anywhere.flags & BY_RULE


@needs_compiler
@pytest.mark.parametrize("offset", [1, PAGE - 1])
def test_a_misaligned_offset_is_refused_by_the_kernel_early(asker, offset):
    case = Case((Device(RULED),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), offset)
    seen = run(asker, case)
    _, fixed, _ = (event for event in seen.trace() if event.step == 0)
    assert (fixed.errno, fixed.flags) == (errno.EINVAL, UNPLANNED)
    assert seen.strays == (Run(0, 64 * PAGE, SHARED, OTHER, 0),)


# ---- contents ----------------------------------------------------------------------------------------------

mapper = worker_of(
    """
static char word[64];

/* Maps all segments; then, by the number of segments, does one more thing. */
void vfio_verify_entry(struct vv_call *call)
{
    char *a = mmap(NULL, call->total_size, PROT_NONE, RESERVE | MAP_NORESERVE, -1, 0), *at = a;
    const unsigned n = call->iov_cnt;
    unsigned i;

    for (i = 0; i < n; i++) {
        ram_addr_t offset;
        RAMBlock *block = qemu_ram_block_from_host(call->iov[i].iov_base, false, &offset);
        VFIORegion *region = vfio_get_region_from_mr(block->mr);
        int prot = n == 5 ? PROT_READ | PROT_WRITE : PROT_READ;

        mmap(at, call->iov[i].iov_len, prot, MAP_SHARED | MAP_FIXED, call->vbasedev->fd,
             region->fd_offset + block->mr->addr + offset);
        at += call->iov[i].iov_len;
    }
    if (n == 2) {           /* changes the last byte of the guest's page */
        ((volatile char *)call->iov[1].iov_base)[call->iov[1].iov_len - 1] ^= 1;
    } else if (n == 3) {    /* a copy in the place of the last segment */
        mmap(at - P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        memcpy(at - P, call->iov[2].iov_base, P);
    } else if (n == 4) {    /* unmaps a page in the middle */
        munmap(a + P, P);
    } else if (n == 6) {    /* a page that is not there */
        mprotect(a + 2 * P, P, PROT_NONE);
    } else if (n == 7) {    /* one more mapping */
        mmap(NULL, P, PROT_READ, RESERVE, -1, 0);
    } else if (n == 8) {    /* another page of the same region */
        mmap(at - P, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 8 * P);
    }
    call->mapped = 1;
    call->address = a;
}
"""
)


def some(n: int) -> Case:
    """A case of n separate pages, which no two tests share."""
    return layout(*((0, n + 2 * i % 3, 1) for i in range(n)))


@needs_compiler
def test_a_right_mapping_shows_no_difference_and_every_page_is_compared(mapper):
    seen = run(mapper, layout((1, 0, 4)))
    assert seen.differences == ()
    assert seen.pages_compared == seen.pages_total == 4
    assert seen.runs == (Run(0, 4 * PAGE, READ | SHARED, 0, (2 << 40) + 2 * PAGE),)


@needs_compiler
def test_one_changed_byte_of_one_page_is_seen_with_its_place(mapper):
    mapper.renew()
    seen = run(mapper, layout((0, 0, 1), (0, 4, 3)))
    (difference,) = seen.differences
    assert (difference.kind, difference.segment, difference.offset) == (1, 1, 3 * PAGE - 8)
    assert difference.expected == (1 << 60) + 7 * PAGE - 8
    assert difference.seen == difference.expected ^ 1 << 56
    mapper.renew()


@needs_compiler
@pytest.mark.parametrize("tail", [1, 7, 8, 9, PAGE - 1])
def test_one_changed_byte_at_the_end_of_a_misaligned_length_is_seen(mapper, tail):
    mapper.renew()
    case = Case((DEVICE,), BLOCKS, (Segment(0, 0, PAGE), Segment(0, 4 * PAGE, PAGE + tail)), 2 * PAGE + tail)
    (difference,) = run(mapper, case).differences
    assert (difference.kind, difference.segment) == (1, 1)
    assert difference.offset == PAGE + (tail - 1) // 8 * 8
    mapper.renew()


@needs_compiler
def test_a_copy_is_equal_now_and_shows_no_later_change_of_the_device_or_the_guest(mapper):
    """CONTENTS: aliasing, in both directions."""
    seen = run(mapper, some(3))
    assert [(d.kind, d.segment) for d in seen.differences] == [(2, 2), (3, 2)]
    assert seen.runs[-1].memory == 101


@needs_compiler
def test_changes_made_to_probe_the_aliases_are_undone(mapper):
    first, second = run(mapper, some(1)), run(mapper, some(1))
    assert first.differences == second.differences == ()
    assert run(mapper, some(3)).differences == run(mapper, some(3)).differences


@needs_compiler
def test_a_hole_and_an_unreadable_page_are_seen_and_do_not_stop_the_comparison(mapper):
    hole = run(mapper, some(4))
    assert [(run.start, run.end) for run in hole.runs] == [(0, PAGE), (2 * PAGE, 3 * PAGE), (3 * PAGE, 4 * PAGE)]
    assert [(d.kind, d.segment) for d in hole.differences] == [(4, 1)]
    unreadable = run(mapper, some(6))
    assert [run.start // PAGE for run in unreadable.runs if not run.flags & READ] == [2]
    assert [(d.kind, d.segment) for d in unreadable.differences] == [(4, 2)]


@needs_compiler
def test_access_another_page_and_a_page_too_many_are_seen(mapper):
    assert {run.flags for run in run(mapper, some(5)).runs} == {READ | SHARED | 2}
    stray = run(mapper, some(7))
    assert [(r.end - r.start, r.memory, r.flags) for r in stray.strays] == [(PAGE, OTHER, READ | SHARED)]
    assert stray.pages_after - stray.pages_before == 8
    other = run(mapper, some(8))
    assert other.runs[-1] == Run(7 * PAGE, 8 * PAGE, READ | SHARED, 0, 8 * PAGE)
    assert [(d.kind, d.segment, d.seen) for d in other.differences] == [(1, 7, (1 << 60) + 8 * PAGE)]


stamp_reader = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    const uint64_t *words = call->iov[0].iov_base;
    SAY("%llx %llx", (unsigned long long)words[0], (unsigned long long)words[511]);
}
"""
)


@needs_compiler
@pytest.mark.parametrize(
    ("block", "stamp"),
    [(0, 0x1000000000000000), (1, 0x1000020000002000), (2, 0x1000020000008000), (3, 0xF000000000000000)],
)
def test_every_word_of_a_block_tells_its_device_region_and_offset(stamp_reader, block, stamp):
    seen = run(stamp_reader, layout((block, 0, 2)))
    assert seen.message.decode() == f"{stamp:x} {stamp + 511 * 8:x}"


@needs_compiler
def test_the_second_device_has_stamps_of_its_own(stamp_reader):
    case = Case((DEVICE, DEVICE), (RamBlock(1, 2, 1),), (Segment(0, 3 * PAGE, PAGE),), PAGE)
    assert run(stamp_reader, case).message.startswith(f"{(2 << 60) + (2 << 40) + 11 * PAGE:x} ".encode())


USER = Device(
    (Region(0, 4 * PAGE), Region(2, 4 * PAGE), Region(5, 4 * PAGE, offset=3 * PAGE)),
    "file",
    region_fds=True,
    region_files=True,
)
USERS = Case((DEVICE, USER), (RamBlock(1, 0, 0), RamBlock(1, 2, 0), RamBlock(1, 5, 0)), (), 0)


@needs_compiler
@pytest.mark.parametrize(("block", "file", "offset"), [(0, 16, 0), (1, 17, 0), (2, 18, 3 * PAGE)])
def test_a_region_with_a_file_of_its_own_has_its_descriptor_its_stamps_and_no_other_of_the_device(
    stamp_reader, core, block, file, offset
):
    case = msgspec.structs.replace(USERS, iovec=(Segment(block, PAGE, 2 * PAGE),), total_size=2 * PAGE)
    stamp = (file - 11 << 60) + offset + PAGE
    assert run(stamp_reader, case).message.decode() == f"{stamp:x} {stamp + 511 * 8:x}"
    seen = run(core, case)
    assert seen.runs == (Run(0, 2 * PAGE, READ | SHARED, file, offset + PAGE),)
    assert not seen.differences


fields_reader = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    struct vfio_region_info *info;
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(call->iov->iov_base, false, &offset);
    VFIORegion *region = vfio_get_region_from_mr(block->mr);
    VFIODevice *vbasedev = region->vbasedev;
    int fds[4] = {vbasedev->fd, vfio_device_get_region_fd(vbasedev, 0), vfio_device_get_region_fd(vbasedev, 2),
                  vfio_device_get_region_fd(vbasedev, 1)};

    vfio_device_get_region_info(vbasedev, 2, &info);
    SAY("%llx %llx %d %d %d", (unsigned long long)info->offset, (unsigned long long)region->fd_offset,
        fds[0] < 0, fds[1] == fds[2], fds[3] < 0);
}
"""
)
PLACED = (Region(0, PAGE, offset=PAGE), Region(2, PAGE, offset=0))


@needs_compiler
@pytest.mark.parametrize(
    ("device", "said"),
    [
        (Device((Region(0, PAGE), Region(2, PAGE))), "20000000000 0 0 1 0"),
        (Device(PLACED), "0 1000 0 1 0"),
        (Device(PLACED, region_fds=True), "0 1000 1 1 1"),
        (Device(PLACED, region_fds=True, region_files=True), "0 1000 1 0 1"),
    ],
    ids=["vfio-pci", "elsewhere", "descriptors", "files"],
)
def test_a_device_has_the_descriptors_and_its_regions_the_places_that_its_case_says(fields_reader, device, said):
    case = Case((device,), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)
    assert run(fields_reader, case).message.decode() == said


probe_reader = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(call->iov->iov_base, false, &offset);
    VFIORegion *region = vfio_get_region_from_mr(block->mr);
    int fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    int errors = 0;
    void *private, *past;

    private = mmap(NULL, P, PROT_READ, MAP_PRIVATE, fd, region->fd_offset);
    errors |= private == MAP_FAILED;
    past = mmap(NULL, P, PROT_READ, MAP_SHARED, fd, region->fd_offset + 4 * P);
    errors |= (past == MAP_FAILED) << 1;
    SAY("%d", errors);
}
"""
)


@needs_compiler
@pytest.mark.parametrize(("rule", "refused"), [("region", "3"), ("areas", "3"), ("file", "0")])
def test_an_ordinary_file_refuses_no_mapping(probe_reader, rule, refused):
    device = Device((Region(1, 4 * PAGE, offset=2 * PAGE),), rule, region_fds=True)
    case = Case((device,), (RamBlock(0, 1, 0),), (Segment(0, 0, PAGE),), PAGE)
    assert run(probe_reader, case).message.decode() == refused


references_reader = worker_of(
    """
void vfio_verify_entry(struct vv_call *call)
{
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(call->iov->iov_base, false, &offset);
    MemoryRegion *mr = block->mr;
    Object *owner = memory_region_owner(mr);

    WITH_RCU_READ_LOCK_GUARD() {
        RCU_READ_LOCK_GUARD();
        if (call->iov_cnt == 1) {
            memory_region_ref(mr);
            object_unref(owner);
            return;
        }
    }
    rcu_read_lock();
    object_ref(mr);
    memory_region_ref(NULL);
    object_unref(owner);
    object_unref(owner);
    memory_region_ref(mr);
    if (call->iov_cnt == 3) {
        rcu_read_unlock();
        rcu_read_unlock();
    }
}
"""
)


@needs_compiler
def test_references_are_counted_for_each_object_and_a_region_lives_as_long_as_its_owner(references_reader):
    even = run(references_reader, layout((0, 0, 1)))
    assert (even.references_kept, even.references_dropped, even.read_locks) == (0, 0, 0)
    odd = run(references_reader, layout((0, 0, 1), (0, 1, 1)))
    # The owner's went down to two below what it was, and is one below it again; the region's own is kept.
    assert (odd.references_kept, odd.references_dropped, odd.read_locks) == (1, 2, 1)
    dead = run(references_reader, layout((0, 0, 1), (0, 1, 1), (0, 2, 1)))
    assert dead.death.note == "rcu_read_unlock() without rcu_read_lock()"


# ---- seeing the address space ------------------------------------------------------------------------------


def relative(seen: Observation) -> Observation:
    """What does not depend on where the kernel put things."""
    trace = []
    for e in seen.trace():
        result = None if e.errno else e.result - seen.base if STEPS[e.step] == "mmap" else e.result
        trace.append((e.step, e.flags, e.a1, e.a2, e.a3, e.a5, e.errno, result))
    return msgspec.structs.replace(
        seen,
        address=bool(seen.address),
        base=0,
        events=repr(trace).encode(),
        pages_before=0,
        pages_after=seen.pages_after - seen.pages_before,
        pages_end=seen.pages_end - seen.pages_before,
        device_fds=(),
    )


@pytest.fixture(scope="module")
def parsing_core():
    with Worker(parse_maps=True) as worker:
        yield worker


@given(packed_cases())
@settings(max_examples=150)
def test_asking_the_kernel_for_each_mapping_and_reading_its_text_show_the_same(core, parsing_core, case):
    (faultless,) = asked = core.run(case, [()])
    plans = fault_plans(faultless)[:12]
    asked = [*asked, *core.run(case, plans)]
    parsed = parsing_core.run(case, [(), *plans])
    assert [relative(seen) for seen in asked] == [relative(seen) for seen in parsed]


@needs_compiler
def test_both_ways_to_look_see_what_a_careless_subject_leaves(tmp_path):
    library = compiled(
        tmp_path,
        """
void vfio_verify_entry(struct vv_call *call)
{
    char *a = mmap(NULL, 9 * P, PROT_NONE, RESERVE, -1, 0);
    mmap(a + P, 2 * P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 2 * P);
    mmap(a + 3 * P, P, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 4 * P);
    mmap(a + 4 * P, P, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mprotect(a + 5 * P, P, PROT_READ | PROT_EXEC);
    munmap(a + 6 * P, P);
}
""",
    )
    wanted = (
        Run(0, PAGE, SHARED, OTHER, 0),
        Run(PAGE, 4 * PAGE, READ | SHARED, 0, 2 * PAGE),
        Run(4 * PAGE, 5 * PAGE, READ | 2, 101, 0),
        Run(5 * PAGE, 6 * PAGE, READ | 4 | SHARED, OTHER, 0),
        Run(7 * PAGE, 9 * PAGE, SHARED, OTHER, 0),
    )
    for parse in (False, True):
        with Worker(library, parse_maps=parse) as worker:
            strays = run(worker, TWO).strays
        assert strays == wanted


@pytest.mark.parametrize("parse", [False, True])
def test_neighbours_with_adjacent_offsets_are_one_run(core, parsing_core, parse):
    seen = run(parsing_core if parse else core, layout((0, 4, 1), (0, 5, 2), (0, 7, 1), (0, 7, 1)))
    assert seen.runs == (
        Run(0, 4 * PAGE, READ | SHARED, 0, 4 * PAGE),
        Run(4 * PAGE, 5 * PAGE, READ | SHARED, 0, 7 * PAGE),
    )


@pytest.mark.parametrize("length", [2 << 30, (4 << 30) + PAGE, 6 << 30])
def test_totals_beyond_2_and_4_gib_are_seen_whole(core, length):
    devices = (Device((Region(8, 16 << 30),)),)
    case = Case(devices, (RamBlock(0, 8, 0),), (Segment(0, PAGE, length), Segment(0, 0, PAGE)), length + PAGE)
    seen = run(core, case)
    offset = 8 << 40
    assert seen.runs == (
        Run(0, length, READ | SHARED, 0, offset + PAGE),
        Run(length, length + PAGE, READ | SHARED, 0, offset),
    )
    assert seen.differences == ()
    assert seen.pages_total == length // PAGE + 1
    assert 16 <= seen.pages_compared < 1000
    assert seen.pages_after - seen.pages_before == length // PAGE + 1
    assert seen.second is not None
    assert seen.second.like_first


MANY = layout(*((0, i * 5 % 16, 1) for i in range(30_000)))


def test_30_000_segments_are_mapped_traced_and_seen(core):
    seen = run(core, MANY)
    assert seen.mapped
    assert seen.count("mmap") == 30_001
    assert seen.events_dropped == 0
    assert len(list(seen.trace())) == sum(seen.counts)
    assert [(r.start, r.end, r.offset) for r in seen.runs] == [
        (o.start, o.end, o.offset) for o in expect(MANY).overlays
    ]


def test_no_event_is_dropped_in_any_of_many_long_runs(core):
    """What is dropped cannot be judged: a fault that is not in the trace would excuse nothing."""
    plans = [(Fault("mmap", 30_001, "ENOMEM"),)] * 8
    seen = core.run(MANY, plans)
    assert [s.events_dropped for s in seen] == [0] * 8
    assert all(any(f & FAULTED for f in s.column("flags")) for s in seen)


def test_the_worker_is_the_same_after_thousands_of_runs(core):
    case = layout((0, 0, 3), (0, 5, 1), (0, 2, 2))
    (faultless,) = core.run(case, [()])
    restarts, fds = core.restarts, open_fds(core)
    plans = [(), *fault_plans(faultless)]
    seen = [s for _ in range(4000 // len(plans)) for s in core.run(case, plans)]
    assert {s.pages_end for s in seen} == {s.pages_before for s in seen} == {faultless.pages_before}
    assert open_fds(core) == fds
    assert {s.harness_changes for s in seen} == {0}
    assert core.restarts == restarts


# ---- without a worker --------------------------------------------------------------------------------------


def in_process(body: str, *arguments: str) -> str:
    """A Python program of its own: the world takes over a process's signals."""
    script = "import sys\nfrom vfio_verify import _world\n" + body
    command = [sys.executable, "-P", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_request_can_be_run_in_ones_own_process(core):
    request = wire.pack_request(TWO, [(), (Fault("mmap", 2, "ENOMEM", "late"),)], native.TWICE)
    printed = in_process(
        "_world.use_core()\n"
        "reply, finished, changes = _world.run(bytes.fromhex(sys.argv[1]), 16 << 20)\n"
        "print(finished, changes, reply.hex())",
        request.hex(),
    )
    finished, changes, reply = printed.split()
    assert (finished, changes) == ("2", "0")
    here = wire.unpack_reply(memoryview(bytes.fromhex(reply)), 2, 0)
    there = core.run(TWO, [(), (Fault("mmap", 2, "ENOMEM", "late"),)])
    for mine, its in zip(here, there, strict=True):
        assert mine.runs == its.runs
        assert mine.counts == its.counts
        assert (mine.mapped, mine.message, mine.second) == (its.mapped, its.message, its.second)


def test_without_a_subject_nothing_is_run():
    printed = in_process("try:\n    _world.run(bytes(80), 1 << 20)\nexcept RuntimeError as error:\n    print(error)\n")
    assert "use_core" in printed


def damaged_requests() -> dict[str, bytes]:
    whole = wire.pack_request(TWO, [()], 0)
    words = list(struct.unpack(f"={len(whole) // 8}Q", whole))

    def changed(position: int, value: int) -> bytes:
        return struct.pack(f"={len(words)}Q", *words[:position], value, *words[position + 1 :])

    n_devices, n_regions = words[2], words[3]
    regions = len(native.RequestHead._fields) + 2 * n_devices
    areas = regions + 8 * n_regions
    blocks = areas + 3 * words[4]
    segments = blocks + 3 * words[5]
    return {
        "nothing": b"",
        "half a head": whole[:40],
        "cut off": whole[:-8],
        "another magic": changed(0, 1),
        "too many devices": changed(2, 5),
        "endless segments": changed(6, 2**63),
        "more plans than there are": changed(7, 2),
        "an unknown kernel fault": changed(10, 10),
        "a region of no device": changed(regions, 7),
        "a region of no file": changed(regions + 5, 15),
        "an area of no region": changed(areas, 7),
        "a block of no area": changed(blocks, 99),
        "a segment of no block": changed(segments, 99),
        "endless faults": whole[:-8] + struct.pack("=Q", 2**62),
    }


def test_a_damaged_request_is_refused_and_not_run():
    requests = damaged_requests()
    printed = in_process(
        "_world.use_core()\n"
        "for text in sys.argv[1:]:\n"
        "    try:\n"
        "        print(_world.run(bytes.fromhex(text), 16 << 20))\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n",
        *(request.hex() for request in requests.values()),
    )
    answers = dict(zip(requests, printed.split("\n"), strict=False))
    assert answers == dict.fromkeys(requests, str(errno.EBADMSG))


def test_a_process_that_runs_the_core_keeps_its_own_address_space():
    """Nothing of a run stays in the process, and the fork of a worker is not needed for it."""
    request = wire.pack_request(TWO, [()] * 50, 0)
    printed = in_process(
        "_world.use_core()\n"
        "request = bytes.fromhex(sys.argv[1])\n"
        "_world.run(request, 16 << 20)\n"
        "count = lambda: sum('memfd' in line for line in open('/proc/self/maps'))\n"
        "before = count()\n"
        "for _ in range(20):\n"
        "    reply, finished, changes = _world.run(request, 16 << 20)\n"
        "    assert (finished, changes) == (50, 0), (finished, changes)\n"
        "print(count() - before)\n",
        request.hex(),
    )
    assert printed == "0\n"


# ---- a machine with room for one mapping and not for two --------------------------------------------------------

starving = worker_of(
    """
#include <sys/resource.h>

void vfio_verify_entry(struct vv_call *call)
{
    static const struct rlimit none = {P, RLIM_INFINITY};
    void *a = mmap(NULL, call->total_size, PROT_NONE, RESERVE, -1, 0);

    if (a == MAP_FAILED) {
        SAY("no memory");
        return;
    }
    mmap(a, call->total_size, PROT_READ, MAP_SHARED | MAP_FIXED, call->vbasedev->fd, 0);
    setrlimit(RLIMIT_AS, &none);
    call->mapped = 1;
    call->address = a;
}
"""
)


def test_a_second_call_for_which_there_is_no_memory_is_no_alarm(starving):
    case = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)
    seen = run(starving, case)
    assert seen.second is not None
    assert (seen.second.mapped, seen.second.starved, seen.second.first_whole) == (False, True, True)
    verdict = judge(case, expect(case), seen)
    assert verdict.violations == ()
    assert "REPEATABLE" not in verdict.checked


# ---- conventions that QEMU does not have ----------------------------------------------------------------------


ANSWERS = """
#include "vfio_verify/qemu.h"
bool f(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    uintptr_t offset;
    RAMBlock *rb = qemu_ram_block_from_host(iov->iov_base, false, &offset);
    int found = vfio_device_lookup(iov, &vbasedev, errp);
    int told = vbasedev ? vfio_device_get_region_info(vbasedev, 0, &info) : -100;

    if (!errp || !*errp) {
        error_setg(errp, "%d %d, %d %d, %d %lx", found, !!vbasedev, told, !!info,
                   rb && vbasedev ? rb->fd == vbasedev->fd : -100, rb ? (long)rb->fd_offset : -1);
    }
    return false;
}
"""


@needs_compiler
@pytest.mark.parametrize(
    ("assume", "faults", "said", "shown"),
    [
        ((), (), "1 1, 0 1, 0 0", ["true", "0"]),
        ((), (Fault("region_info", 1, "EIO"),), "1 1, -5 0, 0 0", ["true", "-EIO"]),
        (("vfio_device_get_region_info=true",), (), "1 1, 1 1, 0 0", ["true", "true"]),
        (("vfio_device_get_region_info=true",), (Fault("region_info", 1, "EIO"),), "1 1, 0 0, 0 0", ["true", "false"]),
        (("vfio_device_lookup=0",), (), "0 1, 0 1, 0 0", ["0", "0"]),
        (("vfio_device_lookup=0",), (Fault("find_device", 1),), "no VFIO device has", ["1"]),
        (("RAMBlock.fd=device",), (), f"1 1, 0 1, 1 {PAGE:x}", ["true", "0"]),
        (native.CONVENTIONS, (), f"0 1, 1 1, 1 {PAGE:x}", ["0", "true"]),
    ],
)
def test_the_world_keeps_the_conventions_of_a_case(tmp_path, assume, faults, said, shown) -> None:
    file = tmp_path / "answers.c"
    file.write_text(ANSWERS)
    region = Region(0, 4 * PAGE, (Area(PAGE, 2 * PAGE),))
    case = Case((Device((region,)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE, faults, assume=assume)
    with open_subject(str(file)) as subject, Worker(subject.library) as worker:
        (seen,) = worker.run(case)
    assert seen.message.decode().startswith(said)
    texts = [call_text(event, case, seen) for event in seen.trace() if STEPS[event.step] != "find_block"]
    assert [text.partition(" = ")[2] for text in texts] == shown
