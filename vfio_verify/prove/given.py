"""The input of the model in C (``struct vm_given`` in specs/model/model.h), and the case that it stands for.

The model's world is smaller than a case's may be: two devices, two regions of at most two areas each, a RAMBlock in two
of the areas, and one of plain RAM.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import get_args

from msgspec import Struct

from vfio_verify.values.case import (
    PAGE,
    REGION_SHIFT,
    Action,
    Area,
    Call,
    Case,
    Device,
    End,
    Fault,
    Kernel,
    KernelFault,
    MmapRule,
    Msix,
    RamBlock,
    Region,
    Segment,
    Step,
)

DEVICES, REGIONS, AREAS, AREA_BLOCKS = 2, 2, 2, 2
PLAIN, NO_BLOCK = 2, 3
INDEXES = 9
"""A region's VFIO index is below it."""
STEPS: tuple[Step, ...] = (
    "mmap", "munmap", "mprotect", "dup", "close",
    "find_device", "find_block", "find_index", "find_region", "region_info", "region_fd",
)  # fmt: skip
"""In the order of ``enum vm_step``."""
RULES: tuple[MmapRule, ...] = get_args(MmapRule)
MSIX: tuple[Msix | None, ...] = (None, *get_args(Msix))

Given = dict[str, int]
"""The fields of ``struct vm_given`` by their names in C, such as ``call[0].segment[1].length``."""


class Bounds(Struct, frozen=True):
    """How many there are at most: the macros with which the model is compiled."""

    segments: int = 2
    faults: int = 1
    calls: int = 1
    watched: int = 1

    @property
    def defines(self) -> list[str]:
        """For the compiler's command."""
        numbers = {"SEGMENTS": self.segments, "FAULTS": self.faults, "CALLS": self.calls, "WATCHED": self.watched}
        return [f"-DVM_{name}={number}" for name, number in numbers.items()]


def fields(bounds: Bounds) -> Iterator[str]:
    """The names of all fields, in the order in which they lie in memory: each is 64 bits wide."""
    yield from (f"device[{d}].{name}" for d in range(DEVICES) for name in ("rule", "region_fds", "region_files"))
    of_region = ("device", "index", "size", "offset", "writable", "sparse", "msix", "n_areas")
    yield from (f"region[{r}].{name}" for r in range(REGIONS) for name in of_region)
    of_area = ("offset", "size")
    yield from (f"area[{r}][{a}].{name}" for r in range(REGIONS) for a in range(AREAS) for name in of_area)
    yield from (f"block[{b}].{name}" for b in range(PLAIN + 1) for name in ("region", "area", "size", "touches"))
    for c in range(bounds.calls):
        yield from (f"call[{c}].n", f"call[{c}].total_size")
        of_segment = ("block", "offset", "length")
        yield from (f"call[{c}].segment[{i}].{name}" for i in range(bounds.segments) for name in of_segment)
    of_fault = ("used", "step", "nth", "error", "late", "persistent")
    yield from (f"fault[{f}].{name}" for f in range(bounds.faults) for name in of_fault)
    yield from ("null_errp", "hints", "noreplace", "locks", "read_only", "second", "end_first")
    yield from (f"watched[{w}]" for w in range(bounds.watched))


def case_of(given: Mapping[str, int], bounds: Bounds) -> Case:
    """The case that an input stands for."""

    def block(b: int) -> RamBlock:
        region = given[f"block[{b}].region"]
        device = given[f"region[{region}].device"]
        touches = bool(given[f"block[{b}].touches"])
        return RamBlock(device, given[f"region[{region}].index"], given[f"block[{b}].area"], touches=touches)

    calls = [_call(given, c, bounds.segments) for c in range(bounds.calls)]
    faults = [_fault(given, f) for f in range(bounds.faults) if given[f"fault[{f}].used"]]
    second = bounds.calls > 1 and given["second"]
    more: list[Action] = [End(0)] if second and given["end_first"] else []
    return Case(
        devices=tuple(_device(given, d) for d in range(DEVICES)),
        ram_blocks=(*map(block, range(AREA_BLOCKS)), RamBlock(size=given[f"block[{PLAIN}].size"])),
        iovec=calls[0].iovec,
        total_size=calls[0].total_size,
        fault_plan=tuple(faults),
        errp="null" if given["null_errp"] else "object",
        kernel_fault=KernelFault("read_only_descriptor") if given["read_only"] else None,
        sequence=(*more, *calls[1:]) if second else (),
        kernel=Kernel(hints=bool(given["hints"]), noreplace=bool(given["noreplace"]), locks=bool(given["locks"])),
    )


def _device(given: Mapping[str, int], d: int) -> Device:
    own = [r for r in range(REGIONS) if given[f"region[{r}].device"] == d]
    return Device(
        regions=tuple(_region(given, r) for r in own),
        mmap_rule=RULES[given[f"device[{d}].rule"]],
        region_fds=bool(given[f"device[{d}].region_fds"]),
        region_files=bool(given[f"device[{d}].region_files"]),
    )


def _region(given: Mapping[str, int], r: int) -> Region:
    msix = MSIX[given[f"region[{r}].msix"]]
    areas = (
        Area(given[f"area[{r}][{a}].offset"], given[f"area[{r}][{a}].size"])
        for a in range(given[f"region[{r}].n_areas"])
    )
    return Region(
        index=given[f"region[{r}].index"],
        size=given[f"region[{r}].size"],
        areas=tuple(areas) if given[f"region[{r}].sparse"] or msix == "cut" else None,
        writable=bool(given[f"region[{r}].writable"]),
        offset=given[f"region[{r}].offset"],
        msix=msix,
    )


def _call(given: Mapping[str, int], c: int, segments: int) -> Call:
    def segment(i: int) -> Segment:
        block, offset, length = (given[f"call[{c}].segment[{i}].{name}"] for name in ("block", "offset", "length"))
        return Segment(None if block == NO_BLOCK else block, offset, length)

    n = given[f"call[{c}].n"]
    assert n <= segments
    return Call(tuple(map(segment, range(n))), given[f"call[{c}].total_size"])


def _fault(given: Mapping[str, int], f: int) -> Fault:
    return Fault(
        step=STEPS[given[f"fault[{f}].step"]],
        nth=given[f"fault[{f}].nth"],
        errno=errno.errorcode[given[f"fault[{f}].error"]],
        when="late" if given[f"fault[{f}].late"] else "early",
        persistent=bool(given[f"fault[{f}].persistent"]),
    )


def given_of(case: Case, bounds: Bounds) -> Given | None:
    """The input that stands for a case, without the regions and blocks that none of its segments lies in; None if the
    model has no such world. Pages to be watched are left at 0."""
    calls = [Call(case.iovec, case.total_size)]
    end_first = case.sequence[:1] == (End(0),)
    for action in case.sequence[end_first:]:
        if not isinstance(action, Call) or action.fault_plan:
            return None
        calls.append(action)
    other_world = case.page_size != PAGE or case.concurrent or case.earlier or case.assume
    if other_world or len(calls) > bounds.calls or len(case.fault_plan) > bounds.faults or case.kernel.mremap_unmaps:
        return None
    if any(len(call.iovec) > bounds.segments for call in calls):
        return None
    if case.kernel_fault not in (None, KernelFault("read_only_descriptor")):
        return None
    if any(fault.step not in STEPS for fault in case.fault_plan):
        return None
    given = dict.fromkeys(fields(bounds), 0)
    places = _place_world(case, calls, given)
    if places is None:
        return None
    for c, call in enumerate(calls):
        given |= {f"call[{c}].n": len(call.iovec), f"call[{c}].total_size": call.total_size}
        for i, segment in enumerate(call.iovec):
            given[f"call[{c}].segment[{i}].block"] = NO_BLOCK if segment.block is None else places[segment.block]
            given[f"call[{c}].segment[{i}].offset"] = segment.offset
            given[f"call[{c}].segment[{i}].length"] = segment.length
    for f, fault in enumerate(case.fault_plan):
        given[f"fault[{f}].used"] = 1
        given[f"fault[{f}].step"] = STEPS.index(fault.step)
        given[f"fault[{f}].nth"] = fault.nth
        given[f"fault[{f}].error"] = getattr(errno, fault.errno)
        given[f"fault[{f}].late"] = fault.when == "late"
        given[f"fault[{f}].persistent"] = fault.persistent
    given["null_errp"] = case.errp == "null"
    given |= {"second": len(calls) > 1, "end_first": end_first}
    given |= {"hints": case.kernel.hints, "noreplace": case.kernel.noreplace, "locks": case.kernel.locks}
    given["read_only"] = case.kernel_fault is not None
    return {name: int(value) for name, value in given.items()}


def _place_world(case: Case, calls: list[Call], given: Given) -> dict[int, int] | None:
    """Fill in devices, regions, areas and blocks; which block of the model each used one of the case is."""
    used = sorted({s.block for call in calls for s in call.iovec if s.block is not None})
    of_areas = [b for b in used if case.ram_blocks[b].device is not None]
    plain = [b for b in used if case.ram_blocks[b].device is None]
    touching = [b for b in used if case.ram_blocks[b].touches and b - 1 in used]
    if len(of_areas) > AREA_BLOCKS or len(plain) > 1 or any(b in plain or b - 1 in plain for b in touching):
        return None
    devices = sorted({case.ram_blocks[b].device or 0 for b in of_areas})
    regions = sorted({(case.ram_blocks[b].device or 0, case.ram_blocks[b].region or 0) for b in of_areas})
    spare = min(len(devices), DEVICES - 1)
    for r in range(REGIONS):  # what the case does not have is there, and used by none
        index = next(i for i in range(r, INDEXES) if i not in [index for _, index in regions])
        given |= {f"region[{r}].device": spare, f"region[{r}].index": index, f"region[{r}].size": PAGE}
        given |= {f"region[{r}].offset": index << REGION_SHIFT, f"region[{r}].n_areas": 1, f"area[{r}][0].size": PAGE}
        given[f"region[{r}].writable"] = 1
    for d, number in enumerate(devices):
        given[f"device[{d}].rule"] = RULES.index(case.devices[number].mmap_rule)
        given[f"device[{d}].region_fds"] = case.devices[number].region_fds
        given[f"device[{d}].region_files"] = case.devices[number].region_files
    for r, (device, index) in enumerate(regions):
        region = next(one for one in case.devices[device].regions if one.index == index)
        areas = region.mmap_areas()
        if not areas or len(areas) > AREAS or region.index >= INDEXES:
            return None
        usual = 0 if case.devices[device].region_files else index << REGION_SHIFT
        given |= {f"region[{r}].device": devices.index(device), f"region[{r}].index": index}
        given |= {f"region[{r}].size": region.size, f"region[{r}].writable": region.writable}
        given[f"region[{r}].offset"] = usual if region.offset is None else region.offset
        given |= {f"region[{r}].sparse": region.areas is not None and region.msix is None}
        given |= {f"region[{r}].msix": MSIX.index(region.msix), f"region[{r}].n_areas": len(areas)}
        for a, area in enumerate(areas):
            given |= {f"area[{r}][{a}].offset": area.offset, f"area[{r}][{a}].size": area.size}
    places = dict.fromkeys(plain, PLAIN)
    for b, number in enumerate(of_areas):
        block = case.ram_blocks[number]
        region_number = regions.index((block.device or 0, block.region or 0))
        given |= {f"block[{b}].region": region_number, f"block[{b}].area": block.area or 0}
        given[f"block[{b}].touches"] = number in touching
        places[number] = b
    for b in range(len(of_areas), AREA_BLOCKS):
        given[f"block[{b}].region"] = b if b < len(regions) or not of_areas else REGIONS - 1
        given[f"block[{b}].area"] = 0
    for b in range(AREA_BLOCKS):
        region_number, area_number = given[f"block[{b}].region"], given[f"block[{b}].area"]
        given[f"block[{b}].size"] = -(-given[f"area[{region_number}][{area_number}].size"] // PAGE) * PAGE
    given[f"block[{PLAIN}].size"] = case.block_size(plain[0]) if plain else PAGE
    return places
