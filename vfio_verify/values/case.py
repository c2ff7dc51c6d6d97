"""A case: one test input, as a value. Frozen, ordered, JSON both ways, versioned.

All offsets and lengths are in bytes. A RAMBlock is one mmap area of a VFIO region, or plain RAM;
a segment names its host address as a block and an offset in it, or as an address in no block.
"""

from __future__ import annotations

import errno
import itertools
import mmap
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr, replace

from vfio_verify.errors import InputError
from vfio_verify.values.conventions import in_order

PAGE = mmap.PAGESIZE
PAGE_SIZES = (4096, 16384, 65536)
"""The sizes of pages on hosts that a subject may be told to run on: x86, arm64, ppc64. This machine imitates the pages
that are larger than its own."""

REGION_SHIFT = 40
"""vfio-pci puts region i at file offset ``i << 40`` (linux/drivers/vfio/pci/vfio_pci_priv.h)."""

MAX_DEVICES, MAX_REGIONS, MAX_AREAS, MAX_BLOCKS, MAX_SEGMENTS = 4, 64, 256, 256, 65536
"""What one world holds; pyx/world/base/base.h has the same limits."""

MAX_FILES, FIRST_FILE = 8, 16
"""Regions that have a file of their own, and the number of the first of these files (vfio_verify/values/backing.py)."""

MAX_FILE_BYTES = 1 << 60
"""The size of each file; VV_MEMFD_BYTES in pyx/world/memory/memory.h."""

MAX_CALLS = 64
"""The calls of one case, concurrent or in sequence."""

MAX_BLOCK_BYTES = (8 << 40) - (1 << 30)
"""The RAM blocks of a case together; ARENA_BYTES and NOWHERE_BYTES in pyx/world/memory/memory.c."""

U64 = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(gt=0, le=1 << REGION_SHIFT)]
Step = Literal[
    "mmap", "munmap", "mprotect", "mremap", "dup", "close", "other_call",
    "find_device", "find_block", "find_index", "find_region", "region_info", "region_fd",
]  # fmt: skip
"""The calls and look-ups that are counted, in the order of ``enum vv_step`` in pyx/world/base/base.h."""

Policy = Literal["same-block", "same-region", "same-device"]
"""Which segments may share a dmabuf: those of one RAMBlock (the spec), of one region, or of one device."""
KernelFaultKind = Literal[
    "address_space", "map_count", "closed_descriptor", "read_only_descriptor", "write_only_descriptor", "sealed",
    "truncated", "seccomp", "hugetlb",
]  # fmt: skip
KERNEL_FAULT_KINDS: tuple[KernelFaultKind, ...] = get_args(KernelFaultKind)
"""What the kernel itself is made to fail by, in the order of ``enum vv_kernel_kind`` in pyx/world/steps/steps.h."""

HUGE_PAGE = 2 << 20
"""A page of a device's memory under the kernel fault `hugetlb`."""


MmapRule = Literal["region", "areas", "file"]
Msix = Literal["cut", "mappable"]


class Area(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """A part of a region that may be mapped: offset within the region, and size."""

    offset: U64
    size: Size


class Region(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True):
    """A VFIO region. ``areas`` is None without the sparse capability: then one area, the whole region. ``offset`` is
    where it begins in its file; None: where vfio-pci puts it, or at 0 in a file of its own. ``msix`` is for a region
    with the MSI-X table: "cut" where QEMU keeps the table's pages out of the areas by itself, and the region's info
    shows no capability; "mappable" where the info says that they may be mapped, too."""

    index: Annotated[int, Meta(ge=0, lt=1 << 19)]
    size: Size
    areas: tuple[Area, ...] | None = None
    writable: bool = True
    mappable: bool = True
    offset: Annotated[int, Meta(ge=0, lt=MAX_FILE_BYTES)] | None = None
    msix: Msix | None = None

    def mmap_areas(self) -> tuple[Area, ...]:
        if not self.mappable:
            return ()
        return (Area(0, self.size),) if self.areas is None else self.areas


class Device(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True):
    """A VFIO device. ``mmap_rule`` says what its driver refuses to map: what lies outside a region (vfio-pci), also
    what lies outside the areas of a sparse one, or nothing, where regions are in ordinary files that a vfio-user
    server shares. With ``region_fds`` the device has no descriptor of its own, but one for each region; with
    ``region_files`` each of them is of another file."""

    regions: tuple[Region, ...]
    # A factory's value is written even where it is the default.
    mmap_rule: MmapRule = field(default_factory=lambda: "region")
    region_fds: bool = field(default_factory=lambda: False)
    region_files: bool = False


class RamBlock(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True):
    """QEMU's RAMBlock: a device's region (by its VFIO index) and the area's position in it, or plain RAM of a size.
    One that ``touches`` begins at the host address at which the one before it in the case ends."""

    device: int | None = None
    region: int | None = None
    area: int | None = None
    size: Size | None = None
    touches: bool = False


class Segment(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """One iovec entry: ``iov_base`` as a RAMBlock's position and an offset from its host address, and ``iov_len``.
    With ``block`` None the address lies in no RAMBlock."""

    block: Annotated[int, Meta(ge=0)] | None
    offset: Annotated[int, Meta(ge=0, lt=1 << 62)]
    length: U64


class Fault(Struct, frozen=True, order=True, forbid_unknown_fields=True):
    """Step number ``nth`` (from 1) of its kind fails. ``late``: only after what MAP_FIXED covers is gone."""

    step: Step
    nth: Annotated[int, Meta(ge=1, lt=1 << 62)]
    errno: str = "EINVAL"
    when: Literal["early", "late"] = "early"
    persistent: bool = False


class KernelFault(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True):
    """A failure that the kernel itself makes, in a process made for it. `at` is the mmap, from 1, before which it is
    set up; 0: before the call. A backing is truncated after the call then. seccomp(2) does not count: its filter fails
    the segment that this mmap usually overlays, and with 0 or 1 all of them."""

    kind: KernelFaultKind
    at: Annotated[int, Meta(ge=0, le=1 << 17)] = 0


class Kernel(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the kernel answers where kernels differ; by default as Linux 6.17 and later, for a user who may lock memory.

    `mremap_unmaps`: an mremap of device memory to a fixed address, which is EFAULT, has unmapped what was there, as
    before 6.17. `hints`: an address without MAP_FIXED is where a mapping is made, if that is free. `noreplace`:
    MAP_FIXED_NOREPLACE is known; before 4.17 it is ignored, and the address a hint. `locks`: False, and a mapping
    with MAP_LOCKED is refused with EAGAIN, as beyond RLIMIT_MEMLOCK."""

    mremap_unmaps: bool = False
    hints: bool = True
    noreplace: bool = True
    locks: bool = True


class Call(Struct, frozen=True, order=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="do", tag="map"):
    """Another call of the subject in the case's world."""

    iovec: tuple[Segment, ...]
    total_size: U64
    fault_plan: tuple[Fault, ...] = ()


class End(Struct, frozen=True, order=True, forbid_unknown_fields=True, tag_field="do", tag="end"):
    """The caller ends a mapping by ``munmap(address, total_size)``. `mapping` counts the calls from 0, the case's."""

    mapping: U64


class Change(Struct, frozen=True, order=True, forbid_unknown_fields=True, tag_field="do", tag="change"):
    """The device changes the memory of a RAMBlock: the 8-byte word at `offset`."""

    block: U64
    offset: U64


class Drop(Struct, frozen=True, order=True, forbid_unknown_fields=True, tag_field="do", tag="drop"):
    """A RAMBlock goes, and its host address with it; mappings of its memory stay."""

    block: U64


class Fork(Struct, frozen=True, order=True, forbid_unknown_fields=True, tag_field="do", tag="fork"):
    """The process forks; the child reads every mapping, and ends."""


Action = Call | End | Change | Drop | Fork


ORDINARY_KERNEL = Kernel()
"""The newest one, as a case has it that says nothing of its kernel."""


Variables = Literal["pattern", "zero"]
_PATTERN: Variables = "pattern"


class Case(
    Struct,
    frozen=True,
    order=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="schema",
    tag="vfio-verify/case@1",
):
    """Everything that one call of a subject depends on.

    `earlier` are calls made before it in the same process, their mappings ended; it is empty unless a finding needs
    them. `sequence` is done after it, in order, in the same world. `concurrent`, whose name in JSON is `alongside`, is
    called at the same time, each call by a thread of its own. Empty ones are not written. `variables` says what the
    subject's automatic variables hold until they are set: a pattern that is no address and no count, or zero, as QEMU
    itself is built since 9.1. `assume` has the conventions, as NAME=VALUE, that the world keeps though QEMU does not
    (specs/conventions.toml).
    """

    devices: tuple[Device, ...]
    ram_blocks: tuple[RamBlock, ...]
    iovec: tuple[Segment, ...]
    total_size: U64
    # A factory's value is written even where it is the default.
    fault_plan: tuple[Fault, ...] = field(default_factory=lambda: ())
    errp: Literal["object", "null"] = field(default_factory=lambda: "object")
    page_size: int = field(default_factory=lambda: PAGE)
    kernel_fault: KernelFault | None = None
    sequence: tuple[Action, ...] = ()
    concurrent: tuple[Call, ...] = field(default=(), name="alongside")
    earlier: tuple[Case, ...] = ()
    kernel: Kernel = ORDINARY_KERNEL
    variables: Variables = _PATTERN
    assume: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # By identity: msgspec leaves out a default that is the very same object.
        if self.kernel is not ORDINARY_KERNEL and self.kernel == ORDINARY_KERNEL:
            force_setattr(self, "kernel", ORDINARY_KERNEL)
        if self.variables is not _PATTERN and self.variables == _PATTERN:
            force_setattr(self, "variables", _PATTERN)

    def region_of(self, block: int) -> Region | None:
        """The region behind a RAMBlock, None for plain RAM."""
        entry = self.ram_blocks[block]
        if entry.device is None:
            return None
        return next(r for r in self.devices[entry.device].regions if r.index == entry.region)

    def area_of(self, block: int) -> Area | None:
        """The mmap area behind a RAMBlock, None for plain RAM."""
        region = self.region_of(block)
        position = self.ram_blocks[block].area
        return None if region is None or position is None else region.mmap_areas()[position]

    def block_size(self, block: int) -> int:
        """Bytes of a RAMBlock: QEMU rounds them up to whole pages."""
        area = self.area_of(block)
        size = area.size if area is not None else self.ram_blocks[block].size or 0
        return -(-size // self.page_size) * self.page_size

    def without_faults(self) -> Case:
        return replace(self, fault_plan=(), kernel_fault=None) if self.fault_plan or self.kernel_fault else self

    def with_faults(self, *faults: Fault) -> Case:
        return replace(self, fault_plan=faults)

    def to_json(self) -> bytes:
        """One line of JSON; `corpus.entry.read_entry` reads it back to an equal case."""
        return _encoder.encode(self)


def in_world(case: Case, assume: tuple[str, ...]) -> Case:
    """The case, and those before it, in a world with these conventions."""
    return replace(case, assume=assume, earlier=tuple(replace(before, assume=assume) for before in case.earlier))


_encoder = msgspec.json.Encoder(order="deterministic")


def check(case: Case) -> None:
    """Raise InputError unless every reference inside the case holds and the world has room for it."""
    counts = {
        "devices": (len(case.devices), MAX_DEVICES),
        "regions": (sum(len(d.regions) for d in case.devices), MAX_REGIONS),
        "files of regions": (sum(len(d.regions) for d in case.devices if d.region_files), MAX_FILES),
        "areas": (sum(len(r.mmap_areas()) for d in case.devices for r in d.regions), MAX_AREAS),
        "RAM blocks": (len(case.ram_blocks), MAX_BLOCKS),
        "calls": (1 + len(case.concurrent) + len(case.sequence), MAX_CALLS),
    }
    for name, (count, limit) in counts.items():
        _require(count <= limit, f"{count} {name}; a world holds at most {limit}")
    _require(why_no_pages(case) is None, why_no_pages(case) or "")
    for number, device in enumerate(case.devices):
        _check_device(number, device, case.page_size)
    for number, block in enumerate(case.ram_blocks):
        _check_block(case, number, block)
    areas = [(block.device, block.region, block.area) for block in case.ram_blocks if block.device is not None]
    _require(len(set(areas)) == len(areas), "two RAM blocks of one mmap area")
    _require(not any(b.touches for b in case.ram_blocks[:1]), "RAM block 0 touches one before it, and there is none")
    sizes = [case.block_size(number) for number in range(len(case.ram_blocks))]
    _check_call(sizes, case)
    # 16 unmapped pages follow each block.
    unit = max(case.page_size, 16 * PAGE)
    taken = sum((-(-size // unit) + 1) * unit for size in sizes)
    _require(taken <= MAX_BLOCK_BYTES, f"RAM blocks of {taken:#x} bytes; a world has room for {MAX_BLOCK_BYTES:#x}")
    for call in case.concurrent:
        _check_call(sizes, call)
    own = case.page_size == PAGE or not (case.concurrent or case.kernel_fault)
    _require(own, "concurrent calls and kernel faults are with this machine's own pages")
    together = sum(map(bool, (case.sequence, case.concurrent, case.kernel_fault)))
    _require(together <= 1, "a sequence, concurrent calls and a kernel fault cannot be together in one case")
    _check_sequence(case, sizes)
    _check_kernel_fault(case)
    _require(case.assume == in_order(case.assume), "its conventions are not in the order of the spec, each name once")
    for before in case.earlier:
        _require(not before.earlier, "an earlier case has earlier cases of its own")
        check(before)


_ERRNOS = frozenset(errno.errorcode.values())


def why_no_pages(case: Case) -> str | None:
    """Why this machine cannot imitate the pages of the case's; None if it can, or has them."""
    if case.page_size == PAGE or (case.page_size in PAGE_SIZES and case.page_size % PAGE == 0):
        return None
    return f"made for pages of {case.page_size} bytes; this machine's have {PAGE}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise _not_a_case(message)


def _not_a_case(message: str) -> InputError:
    return InputError(f"not a case: {message}")


def _check_call(sizes: Sequence[int], call: Case | Call) -> None:
    """A call in a world with RAM blocks of these sizes."""
    _require(len(call.iovec) <= MAX_SEGMENTS, f"{len(call.iovec)} segments; a world holds at most {MAX_SEGMENTS}")
    words = (call.total_size, *(segment.length for segment in call.iovec))
    _require(all(word < 1 << 64 for word in words), "a size or length of 2**64 or more")
    for number, segment in enumerate(call.iovec):
        if segment.block is not None and segment.block >= len(sizes):
            raise _not_a_case(f"segment {number}: there is no RAM block {segment.block}")
        limit = 1 << 30 if segment.block is None else sizes[segment.block]
        if segment.offset >= limit:
            raise _not_a_case(f"segment {number}: an offset of {segment.offset:#x} is not below {limit:#x}")
    for number, fault in enumerate(call.fault_plan):
        _require(fault.errno in _ERRNOS, f"fault {number}: {fault.errno!r} is not the name of an errno")


def _check_sequence(case: Case, sizes: Sequence[int]) -> None:
    """Only what exists is ended, changed or dropped, and nothing twice."""
    segments = len(case.iovec) + sum(len(action.iovec) for action in case.sequence if isinstance(action, Call))
    _require(segments <= MAX_SEGMENTS, f"{segments} segments in sequence; a world holds at most {MAX_SEGMENTS}")
    mappings, blocks = {0}, set(range(len(case.ram_blocks)))
    calls = 1
    for number, action in enumerate(case.sequence):
        where = f"sequence, step {number}"
        match action:
            case Call():
                _check_call(sizes, action)
                used = {segment.block for segment in action.iovec if segment.block is not None}
                _require(used <= blocks, f"{where}: a RAM block that was dropped is used")
                mappings.add(calls)
                calls += 1
            case End(mapping):
                _require(mapping in mappings, f"{where}: there is no mapping {mapping}")
                mappings.discard(mapping)
            case Change(block, offset):
                _require(block in blocks, f"{where}: there is no RAM block {block}")
                inside = offset % 8 == 0 and offset + 8 <= sizes[block]
                _require(inside, f"{where}: {offset:#x} is no word of RAM block {block}")
            case Drop(block):
                _require(block in blocks, f"{where}: there is no RAM block {block}")
                blocks.discard(block)


def _check_kernel_fault(case: Case) -> None:
    if case.kernel_fault is None:
        return
    if case.kernel_fault.kind == "hugetlb":
        areas = [a for d in case.devices for r in d.regions for a in r.mmap_areas()]
        numbers = [n for a in areas for n in (a.offset, a.size)]
        numbers += [n for s in case.iovec if s.block is not None for n in (s.offset, s.length)]
        whole = all(number % HUGE_PAGE == 0 for number in numbers)
        _require(whole, f"with huge pages, offsets and lengths are multiples of {HUGE_PAGE:#x}")


def _check_device(number: int, device: Device, page: int) -> None:
    indexes = [region.index for region in device.regions]
    _require(len(set(indexes)) == len(indexes), f"device {number}: two regions with the same index")
    _require(
        device.region_fds or not device.region_files, f"device {number}: files of regions need descriptors of them"
    )
    _require(device.region_fds or device.mmap_rule != "file", f"device {number}: its regions are not in ordinary files")
    _check_offsets(number, device, page)
    for region in device.regions:
        end = 0
        for area in region.areas or ():
            _require(
                area.offset % page == 0 and end <= area.offset and area.offset + area.size <= region.size,
                f"device {number}, region {region.index}: areas must be page aligned, ascending and inside the region",
            )
            end = area.offset + area.size
        what = f"device {number}, region {region.index}"
        _require(
            region.msix != "cut" or _lacks_a_part(region, page), f"{what}: its areas are not all but the MSI-X table"
        )
        _require(region.msix != "mappable" or region.areas is None, f"{what}: it has areas, and a mappable MSI-X table")


def _lacks_a_part(region: Region, page: int) -> bool:
    """Whether the areas are the whole region except for one run of pages."""
    edges = (0, *(edge for a in region.areas or () for edge in (a.offset, a.offset + a.size)), region.size)
    gaps = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]
    if len(gaps) != 1 or gaps[0][0] % page:
        return False
    ((start, end),) = gaps
    left = tuple(Area(a, b - a) for a, b in ((0, start), (end, region.size)) if a < b)
    return bool(left) and region.areas == left


def _check_offsets(number: int, device: Device, page: int) -> None:
    """Regions that share a file do not overlap in it."""
    ranges = []
    for region in device.regions:
        start = region.offset or 0
        if region.offset is None and not device.region_files:
            start = region.index << REGION_SHIFT
        end = start + -(-region.size // page) * page
        where = f"device {number}, region {region.index}"
        _require(start % page == 0 and end <= MAX_FILE_BYTES, f"{where}: it cannot begin at {start:#x} of its file")
        ranges.append((start, end))
    ranges.sort()
    apart = all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    _require(apart or device.region_files, f"device {number}: regions overlap in its file")


def _check_block(case: Case, number: int, block: RamBlock) -> None:
    if block.device is None:
        _require(block.size is not None, f"RAM block {number}: plain RAM needs a size")
        _require(block.region is None and block.area is None, f"RAM block {number}: a region needs a device")
        return
    _require(0 <= block.device < len(case.devices), f"RAM block {number}: there is no device {block.device}")
    regions = {region.index: region for region in case.devices[block.device].regions}
    _require(block.region in regions, f"RAM block {number}: device {block.device} has no region {block.region}")
    areas = case.region_of(number).mmap_areas()  # type: ignore[union-attr]  # the region was found above
    _require(
        block.area is not None and 0 <= block.area < len(areas),
        f"RAM block {number}: region {block.region} has {len(areas)} mmap areas",
    )
    _require(block.size is None, f"RAM block {number}: its size is its area's")
