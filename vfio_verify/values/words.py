"""Addresses, pages, calls and steps as a reader wants them: relative to the mapping, by name, in hexadecimal."""

from __future__ import annotations

import errno
import mmap
import re
import signal
from collections.abc import Iterator

from vfio_verify.values.backing import backings, memory_of, region_at
from vfio_verify.values.case import FIRST_FILE, Case, Kernel, KernelFault, KernelFaultKind, Step
from vfio_verify.values.observation import (
    ANONYMOUS,
    EXEC,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    NOTHING,
    OPEN,
    OTHER,
    RAM,
    READ,
    REFUSED,
    SHARED,
    STEPS,
    TOOK_AWAY,
    WRITE,
    Death,
    Event,
    Observation,
)

_PROT = ((1, "PROT_READ"), (2, "PROT_WRITE"), (4, "PROT_EXEC"))
_MAP = (
    *((mmap.MAP_SHARED, "MAP_SHARED"), (mmap.MAP_PRIVATE, "MAP_PRIVATE"), (MAP_FIXED, "MAP_FIXED")),
    *((mmap.MAP_ANONYMOUS, "MAP_ANONYMOUS"), (MAP_NORESERVE, "MAP_NORESERVE")),
    (MAP_FIXED_NOREPLACE, "MAP_FIXED_NOREPLACE"),
)

_LOOK_UPS: dict[Step, str] = {
    "find_device": "vfio_device_lookup",
    "find_block": "qemu_ram_block_from_host",
    "find_index": "vfio_get_region_index_from_mr",
    "find_region": "vfio_get_region_from_mr",
    "region_info": "vfio_device_get_region_info",
    "region_fd": "vfio_device_get_region_fd",
}
_TRUTH_LOOK_UPS = (3, 4)
"""Shapes of vfio_device_lookup(), in its event's third argument, that answer true or false (pyx/world/qemu/vfio.c)."""
_REGION_INFO_IS_TRUE, _LOOKUP_IS_0 = "vfio_device_get_region_info=true", "vfio_device_lookup=0"
"""Conventions under which a look-up answers otherwise."""


def place(offset: int, base: str = "A") -> str:
    """A position relative to an address: ``A``, ``A+0x1000``, ``A-0x1000``."""
    space = " " if " " in base else ""
    return base if not offset else f"{base}{space}{'+' if offset > 0 else '-'}{space}{abs(offset):#x}"


def memory_name(memory: int, offset: int, case: Case) -> str:
    """What stands behind a page: ``device 0, region 2 + 0x3000``."""
    if memory in (OTHER, ANONYMOUS):
        return "anonymous memory"
    if memory == RAM:
        return f"plain RAM + {offset:#x}"
    found = region_at(case, memory, offset)
    if found is None:
        return f"{file_name(memory, case)}, {offset:#x} of its file, where no region is"
    device, index, within = found
    return f"device {device}, {place(within, f'region {index}')}"


def file_name(memory: int, case: Case) -> str:
    """The file of a device, or of a region that has one of its own."""
    if memory < FIRST_FILE:
        return f"device {memory}"
    owners = [f"device {b.device}, region {b.region.index}" for b in backings(case) if b.memory == memory]
    return owners[0] if owners else "a file of no region"


def stamp_name(word: int, case: Case) -> str:
    """What a stamped word says of its place (``vv_stamp()`` in pyx/world/memory/stamps.c makes them)."""
    owner, offset = word >> 60, word & ((1 << 60) - 1)
    if not owner:
        return f"{word:#x}"
    memory = RAM if owner == RAM else memory_of(owner - 1)
    return memory_name(memory, offset & ~7, case) + (" changed" if word & 7 else "")


def access(flags: int) -> str:
    """Access as /proc/PID/maps writes it: ``r--s``."""
    letters = ((READ, "r", "-"), (WRITE, "w", "-"), (EXEC, "x", "-"), (SHARED, "s", "p"))
    return "".join(yes if flags & bit else no for bit, yes, no in letters)


def errno_name(number: int) -> str:
    """``ENOMEM`` for 12."""
    return errno.errorcode.get(number, str(number))


def address_name(address: int, case: Case, seen: Observation) -> str:
    """An address by what it belongs to: the mapping or reservation (A), a RAM block, or nothing known."""
    for i, host in enumerate(seen.block_hosts):
        if host <= address < host + case.block_size(i):
            return place(address - host, f"block {i}")
    for name, start, end in seen.named:
        if start <= address < end:
            return place(address - start, name)
    near = address - seen.base
    if seen.base and abs(near) <= 2 * case.total_size + (1 << 24):
        return place(near)
    return "NULL" if not address else f"{address:#x}" if address < 1 << 20 else "elsewhere"


def fd_name(fd: int, case: Case, seen: Observation) -> str:
    """A descriptor by the file that it is of; numbers differ from run to run."""
    if fd < 0:
        return str(fd)
    if fd not in seen.device_fds:
        return "fd"
    slot = seen.device_fds.index(fd)
    if slot + 1 == len(seen.device_fds):
        return "fd of RAM"
    return f"fd of {file_name(memory_of(slot), case)}"


_LOWEST_ADDRESS = 1 << 44
"""Programs, RAM blocks and mappings lie above it; sizes, and offsets in all but odd regions, below."""


def relative_text(text: str, case: Case, seen: Observation) -> str:
    """A message in which addresses are named as in `address_name`, so that it is the same in every run."""

    def name(match: re.Match[str]) -> str:
        address = int(match[0], 16)
        return match[0] if address < _LOWEST_ADDRESS else address_name(address, case, seen)

    return re.sub(r"0x[0-9a-f]{9,16}\b", name, text)


def flag_names(value: int, names: tuple[tuple[int, str], ...], none: str) -> str:
    """Flags as C writes them, joined by ``|``."""
    known = [name for bit, name in names if value & bit]
    rest = value & ~sum(bit for bit, _ in names)
    return "|".join([*known, *([f"{rest:#x}"] if rest else [])]) or none


def call_text(event: Event, case: Case, seen: Observation) -> str:
    """One event as C writes it, with its answer."""
    at = address_name(event.a0, case, seen)
    signed = [a - (1 << 64) if a >> 63 else a for a in event[2:8]]
    step = STEPS[event.step]
    if step == "mmap":
        prot, flags = flag_names(event.a2, _PROT, "PROT_NONE"), flag_names(event.a3, _MAP, "0")
        text = f"mmap({at}, {event.a1:#x}, {prot}, {flags}, {fd_name(signed[4], case, seen)}, {event.a5:#x})"
    elif step in ("munmap", "mprotect"):
        access_text = f", {flag_names(event.a2, _PROT, 'PROT_NONE')}" if step == "mprotect" else ""
        text = f"{step}({at}, {event.a1:#x}{access_text})"
    elif step == "mremap":
        target = address_name(event.a4, case, seen)
        text = f"mremap({at}, {event.a1:#x}, {event.a2:#x}, {event.a3:#x}, {target})"
    elif step in ("dup", "close"):
        text = f"{step}({fd_name(signed[0], case, seen)})"
    else:
        text = _look_up_text(step, event, case, seen)
    return text + _answer(event, case, seen)


def _answer(event: Event, case: Case, seen: Observation) -> str:
    if event.flags & OPEN:
        return ""
    if event.errno and STEPS[event.step] == "region_info":
        return f" = {'false' if _REGION_INFO_IS_TRUE in case.assume else f'-{errno_name(event.errno)}'}"
    if event.errno:
        late = ", after what was there was unmapped" if event.flags & TOOK_AWAY else ""
        return f" = {errno_name(event.errno)}{late}"
    if event.flags & REFUSED:
        return " (not carried out)"
    step = STEPS[event.step]
    if step in ("mmap", "mremap"):
        return f" = {address_name(event.result, case, seen)}"
    answer = _look_up_answer(step, event, case, seen)
    return f" = {answer}" if answer else ""


def _look_up_answer(step: Step, event: Event, case: Case, seen: Observation) -> str:
    """What a look-up found, by name; how it says that it found nothing is its own convention."""
    nothing = event.result == NOTHING
    if step == "find_device":
        if event.a2 in _TRUTH_LOOK_UPS:
            false, true = ("1", "0") if _LOOKUP_IS_0 in case.assume else ("false", "true")
            return false if nothing else true
        return "NULL" if nothing else f"device {event.result}"
    if step == "find_block":
        return "NULL" if nothing else f"block {event.result}"
    if step == "find_region":
        return "NULL" if nothing else _region_name(event.result, case)
    if step == "find_index":
        return "-1" if nothing else f"index {event.result}"
    if step == "region_info":
        return "true" if _REGION_INFO_IS_TRUE in case.assume else "0"
    if step == "region_fd":
        return "-1" if nothing else fd_name(event.result, case, seen)
    return ""


def _region_name(position: int, case: Case) -> str:
    """A region by its position among those of all devices."""
    regions = [(number, region.index) for number, device in enumerate(case.devices) for region in device.regions]
    if position >= len(regions):
        return "a region"
    device, index = regions[position]
    return f"region {index}" if len(case.devices) == 1 else f"device {device}, region {index}"


def _look_up_text(step: Step, event: Event, case: Case, seen: Observation) -> str:
    """QEMU's name of the look-up, and what was looked up (pyx/world/qemu/vfio.c has the table of arguments)."""
    block = "no block" if event.a0 == NOTHING else f"block {event.a0}"
    address = address_name(event.a0, case, seen)
    what = {
        "find_device": "" if event.flags & OPEN else address if event.a2 in _TRUTH_LOOK_UPS else block,
        "find_block": address,
        "find_index": block,
        "find_region": block,
        "region_info": f"region {event.a0}",
        "region_fd": f"region {event.a0}",
    }.get(step, "")
    return f"{_LOOK_UPS.get(step, step)}({what})"


def has_errno(step: Step) -> bool:
    """Whether such a step tells its caller an errno. Most look-ups only say that they found nothing."""
    return step not in _LOOK_UPS or step == "region_info"


def step_name(step: Step) -> str:
    """What a step is called in C."""
    return f"{_LOOK_UPS.get(step, step)}()"


def step_text(event: Event) -> str:
    """A step that failed: ``mmap() failed with ENOMEM (late)``."""
    late = " (late)" if event.flags & TOOK_AWAY else ""
    reason = f" with {errno_name(event.errno)}" if event.errno else ""
    return f"{step_name(STEPS[event.step])} failed{reason}{late}"


def kernel_texts(kernel: Kernel) -> Iterator[str]:
    """How the kernel differs from the newest one."""
    if not kernel.hints:
        yield "maps elsewhere than at an address given without MAP_FIXED"
    if not kernel.noreplace:
        yield "ignores MAP_FIXED_NOREPLACE, as before Linux 4.17"
    if not kernel.locks:
        yield "refuses MAP_LOCKED with EAGAIN, as beyond RLIMIT_MEMLOCK"
    if kernel.mremap_unmaps:
        yield "an mremap() of device memory has unmapped its target when it fails, as before Linux 6.17"


KERNEL_FAULTS: dict[KernelFaultKind, str] = {
    "address_space": "RLIMIT_AS leaves no address space",
    "map_count": "the process has as many mappings as vm.max_map_count allows",
    "closed_descriptor": "the device's descriptor is closed",
    "read_only_descriptor": "the device's descriptor is open for reading only",
    "write_only_descriptor": "the device's descriptor is open for writing only",
    "sealed": "the device's memory is sealed against writable mappings",
    "truncated": "the device's memory is cut off, and reading it raises SIGBUS",
    "seccomp": "a seccomp filter fails overlays with EPERM",
    "hugetlb": "the device's memory is of huge pages of 2 MiB",
}
"""What the kernel itself is made to fail by."""


def kernel_fault_text(fault: KernelFault) -> str:
    """A kernel fault, and from when on it is there."""
    when = f"before mmap() number {fault.at}"
    if fault.kind == "seccomp":
        when = f"that of segment {fault.at - 2}" if fault.at > 1 else "all of them"
    elif not fault.at:
        when = "after the call" if fault.kind == "truncated" else "before the call"
    return f"{KERNEL_FAULTS[fault.kind]}: {when}"


def death_text(death: Death) -> str:
    """How a process ended."""
    if death.how == "hang":
        return "does not return"
    if death.how == "stop":
        return "stops its own process"
    if death.how == "damage":
        return f"damages the process that it runs in: {death.note}"
    if death.how == "excess":
        return death.note
    if death.how == "abort":
        return f"abort: {death.note}"
    if death.how == "exit":
        return f"exit with status {death.status}"
    known = death.signal in signal.valid_signals() and not signal.SIGRTMIN < death.signal < signal.SIGRTMAX
    name = signal.Signals(death.signal).name if known else f"signal {death.signal}"
    return f"{name} {death.note}".rstrip()


def number_of(count: int, what: str) -> str:
    """``1 layout``, ``2,000 layouts``."""
    return f"{count:,} {what}{'s' * (count != 1)}"
