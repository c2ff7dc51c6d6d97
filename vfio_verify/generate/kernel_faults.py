"""Which failures that the kernel itself makes a layout is run under, and whether this machine permits them."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.generate.layouts import larger_devices
from vfio_verify.values.case import (
    HUGE_PAGE,
    KERNEL_FAULT_KINDS,
    PAGE,
    Case,
    Device,
    KernelFault,
    KernelFaultKind,
    RamBlock,
    Region,
    Segment,
    check,
)
from vfio_verify.values.observation import Observation

_MOST_MAPS = 300_000
"""What vm.max_map_count may be: each mapping takes two microseconds to make."""

_F_SEAL_FUTURE_WRITE = 0x10  # linux/fcntl.h; Python's fcntl lacks it
_MFD_HUGE_2MB = 21 << 26  # linux/memfd.h
_SECCOMP_MACHINES = ("x86_64", "aarch64", "riscv64")

LAYOUTS, FEW, MANY = 8, 16, 300
"""How many ordinary layouts are run at most, and the segments of these, and of the one long one besides."""


def layouts_again(examples: int) -> int:
    """How many ordinary layouts a campaign of so many runs: a small one would take longer over them than over the
    rest."""
    return max(2, min(LAYOUTS, examples // 100 * 2))


def kernel_cases(case: Case, faultless: Observation, kind: KernelFaultKind) -> list[Case]:
    """The case under kernel faults of this kind, set up where its faultless run shows a reservation or an overlay. None
    where the world has no room for it."""
    plain = replace(case.without_faults(), sequence=(), concurrent=(), earlier=())
    if kind == "hugetlb":
        plain = _of_huge_pages(plain)
    places = _positions(kind, faultless.count("mmap"), len(case.iovec))
    faulty = [replace(plain, kernel_fault=KernelFault(kind, at)) for at in places]
    try:
        check(faulty[0])  # whether there is room does not depend on the place
    except InputError:
        return []
    return faulty


def long_case() -> Case:
    """A layout of some hundred segments: no two that follow each other continue each other."""
    region = Region(1, 2 * MANY * PAGE)
    iovec = tuple(Segment(0, 2 * i * PAGE, PAGE) for i in range(MANY))
    return Case((Device((region,)),), (RamBlock(0, 1, 0),), iovec, MANY * PAGE)


def _positions(kind: KernelFaultKind, mmaps: int, segments: int) -> list[int]:
    """Before the call, the reservation, and the first, the middle and the last overlay, as far as they differ."""
    first, middle, last = min(2, mmaps), (2 + mmaps) // 2, mmaps
    positions: dict[KernelFaultKind, tuple[int, ...]] = {
        "address_space": (1, first, middle, last),
        "map_count": (1, middle, last),
        "closed_descriptor": (0, middle, last),
        "read_only_descriptor": (0, last),
        "write_only_descriptor": (0, middle, last),
        "sealed": (0,),
        "truncated": (0, 1, middle, last),
        # By the segment, not by the mmap: also those that no interposer sees.
        "seccomp": (2, (segments + 3) // 2, segments + 1),
        "hugetlb": (0,),
    }
    return sorted(set(positions[kind]))


def _of_huge_pages(case: Case) -> Case:
    """The same layout, with each page a huge one."""

    def scaled(number: int) -> int:
        return -(-number // PAGE) * HUGE_PAGE

    return replace(
        case,
        devices=larger_devices(case, scaled),
        iovec=tuple(replace(s, offset=scaled(s.offset), length=scaled(s.length)) for s in case.iovec),
        total_size=sum(scaled(s.length) for s in case.iovec),
    )


class KernelRuns(Struct, frozen=True):
    """How often a kind was set up. `reason` says why not at all, or what of it is left out; None where it is whole."""

    kind: KernelFaultKind
    runs: int
    reason: str | None


def account(runs: Mapping[str, int], reasons: Mapping[str, str], *, interrupted: bool) -> tuple[KernelRuns, ...]:
    """What became of each kind."""
    silent = "interrupted" if interrupted else "the subject maps no layout on which it could be set up"
    return tuple(
        KernelRuns(kind, n, reasons.get(kind) or (shortfall(kind) if n else silent))
        for kind in KERNEL_FAULT_KINDS
        for n in [runs.get(kind, 0)]
    )


# ---- what this machine permits ---------------------------------------------------------------------------------


def why_not(kind: KernelFaultKind) -> str | None:
    """Why a kind cannot be set up on this machine; None where nothing is known against it."""
    match kind:
        case "map_count":
            return _why_no_map_count(Path("/proc/sys/vm/max_map_count"))
        case "sealed":
            return _why_no_memfd(os.MFD_ALLOW_SEALING, seal=True)
        case "hugetlb":
            return _why_no_memfd(os.MFD_HUGETLB | _MFD_HUGE_2MB)
        case "seccomp":
            return _why_no_seccomp(platform.machine())
        case _:
            return None


def reasons_against(why: Callable[[KernelFaultKind], str | None] = why_not) -> dict[KernelFaultKind, str]:
    """The kinds that cannot be set up on this machine, and why."""
    return {kind: reason for kind in KERNEL_FAULT_KINDS if (reason := why(kind)) is not None}


def permitted(reasons: Mapping[KernelFaultKind, str]) -> tuple[KernelFaultKind, ...]:
    """The kinds that nothing is against."""
    return tuple(kind for kind in KERNEL_FAULT_KINDS if kind not in reasons)


def shortfall(kind: KernelFaultKind) -> str | None:
    """What of a kind that is exercised is left out on this machine."""
    if kind != "hugetlb":
        return None
    try:
        free = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    except (OSError, ValueError):
        free = 0
    if free:
        return None
    return "no huge page is free: every overlay failed, and none was mapped"


def _why_no_map_count(limit: Path) -> str | None:
    try:
        maps = int(limit.read_text())
    except (OSError, ValueError) as error:
        return f"the limit cannot be read: {error}"
    if maps > _MOST_MAPS:
        return f"vm.max_map_count is {maps}; to fill more than {_MOST_MAPS} mappings takes too long"
    return None


def _why_no_memfd(flags: int, *, seal: bool = False) -> str | None:
    try:
        fd = os.memfd_create("vfio-verify", flags | os.MFD_CLOEXEC)
    except OSError as error:
        return f"memfd_create(2): {error.strerror}"
    try:
        if seal:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _F_SEAL_FUTURE_WRITE)
    except OSError as error:
        return f"F_SEAL_FUTURE_WRITE, which is Linux 5.1's: {error.strerror}"
    finally:
        os.close(fd)
    return None


def _why_no_seccomp(machine: str) -> str | None:
    if machine not in _SECCOMP_MACHINES or sys.maxsize < 1 << 32:
        return f"no filter is written for {machine}"
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text().split()
    except OSError as error:
        return f"this kernel has no seccomp filters: {error.strerror}"
    return None if "errno" in actions else "this kernel's seccomp filters cannot fail a call"
