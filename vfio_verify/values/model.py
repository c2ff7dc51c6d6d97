"""What is expected of a case: must map, must refuse, or may do either, and what a mapping must then be.

Computed from the case alone. It shares no code with any subject, the core included, and knows nothing of
what a subject did.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from vfio_verify.values.backing import backing
from vfio_verify.values.case import Case, KernelFault, Policy, RamBlock


class Refusal(Struct, frozen=True):
    """Why a case must be refused: the clause that says so, the segment at fault if it is one, and the reason."""

    clause: str
    segment: int | None
    reason: str


class Overlay(Struct, frozen=True):
    """Pages of the finished mapping: [start, end) from its address shows this memory from this file offset on."""

    start: int
    end: int
    memory: int
    offset: int


class Expectation(Struct, frozen=True):
    """`refusals` empty and `either` False: must map. `overlays` hold whenever it is mapped and may be."""

    refusals: tuple[Refusal, ...]
    either: bool
    overlays: tuple[Overlay, ...]
    total_size: int

    @property
    def may_map(self) -> bool:
        return not self.refusals

    @property
    def must_map(self) -> bool:
        return not self.refusals and not self.either


def expect(case: Case, policy: Policy = "same-block") -> Expectation:
    """What the spec demands of a call on this case while no step of it fails by the fault plan."""
    refusals = (*_empty(case), *_sizes(case), *_blocks(case, policy), *_bounds(case), *_alignment(case))
    page = case.page_size
    either = bool(case.iovec) and (case.iovec[-1].length % page != 0 or _fills_the_last_page(case))
    either = either or (case.kernel_fault is not None and _may_fail(case.kernel_fault))
    overlays = () if refusals else _overlays(case)
    return Expectation(refusals, either, overlays, case.total_size)


_ENOUGH = ("read_only_descriptor", "sealed")
"""Kernel faults under which a mapping that is only read is still allowed."""


def _may_fail(fault: KernelFault) -> bool:
    """Whether the kernel may refuse a step that the call needs, even one that nobody sees."""
    gone_later = fault.kind == "truncated" and not fault.at
    return fault.kind not in _ENOUGH and not gone_later


def _empty(case: Case) -> list[Refusal]:
    if not case.iovec:
        return [Refusal("NOT_EMPTY", None, "there are no segments")]
    return [
        Refusal("NOT_EMPTY", i, f"segment {i} is empty") for i, segment in enumerate(case.iovec) if not segment.length
    ]


def _sizes(case: Case) -> list[Refusal]:
    total = sum(segment.length for segment in case.iovec)
    if not case.iovec or total == case.total_size or _fills_the_last_page(case):
        return []
    difference = total - case.total_size
    how = f"{abs(difference):#x} bytes {'more' if difference > 0 else 'less'} than total_size"
    return [Refusal("SIZE_AGREES", None, f"the lengths add up to {total:#x}, {how}")]


def _fills_the_last_page(case: Case) -> bool:
    """Whether the lengths reach beyond total_size, but not beyond the page in which it ends. Then the overlays cover
    the reservation exactly."""
    total = sum(segment.length for segment in case.iovec)
    return case.total_size < total <= -(-case.total_size // case.page_size) * case.page_size


_COMMON: dict[Policy, Callable[[int, RamBlock], object]] = {
    "same-block": lambda number, _: number,
    "same-region": lambda _, block: (block.device, block.region),
    "same-device": lambda _, block: block.device,
}
"""What the segments of one buffer have in common, by the number of their RAMBlock and the block."""


def _blocks(case: Case, policy: Policy) -> list[Refusal]:
    refusals = []
    groups: dict[object, int] = {}
    common = _COMMON[policy]
    for i, segment in enumerate(case.iovec):
        if segment.block is None:
            refusals.append(Refusal("SAME_BLOCK", i, f"segment {i} lies in no RAMBlock"))
            continue
        block = case.ram_blocks[segment.block]
        if block.device is None:
            refusals.append(Refusal("SAME_BLOCK", i, f"segment {i} lies in plain RAM, not in a VFIO region"))
        groups.setdefault(common(segment.block, block), i)
    if len(groups) > 1:
        first, second = sorted(groups.values())[:2]
        what = {"same-block": "RAMBlocks", "same-region": "regions", "same-device": "devices"}[policy]
        refusals.append(Refusal("SAME_BLOCK", second, f"segments {first} and {second} lie in different {what}"))
    return refusals


def _bounds(case: Case) -> list[Refusal]:
    refusals = []
    sizes = [case.block_size(block) for block in range(len(case.ram_blocks))]
    for i, segment in enumerate(case.iovec):
        if segment.block is None:
            continue
        past = segment.offset + segment.length - sizes[segment.block]
        if past > 0:
            refusals.append(Refusal("WITHIN_BLOCK", i, f"segment {i} runs {past:#x} bytes past its RAMBlock"))
    return refusals


def _alignment(case: Case) -> list[Refusal]:
    page = case.page_size
    refusals = []
    for i, segment in enumerate(case.iovec):
        if segment.offset % page:
            refusals.append(Refusal("ALIGNED", i, f"segment {i} begins {segment.offset % page:#x} bytes into a page"))
        if segment.length % page and i + 1 < len(case.iovec):
            refusals.append(
                Refusal(
                    "ALIGNED", i, f"segment {i} ends {segment.length % page:#x} bytes into a page, and is not the last"
                )
            )
    return refusals


def _overlays(case: Case) -> tuple[Overlay, ...]:
    """The tiling in iovec order; neighbours that continue each other are one, as the kernel merges them."""
    page = case.page_size
    overlays: list[Overlay] = []
    begins: dict[int, tuple[int, int]] = {}
    start = 0
    for segment in case.iovec:
        assert segment.block is not None  # else the case is refused
        if segment.block not in begins:
            begins[segment.block] = _begin(case, segment.block)
        length = -(-segment.length // page) * page
        memory, first = begins[segment.block]
        offset = first + segment.offset
        last = overlays[-1] if overlays else None
        if last is not None and last.memory == memory and last.offset + (last.end - last.start) == offset:
            overlays[-1] = Overlay(last.start, start + length, memory, last.offset)
        else:
            overlays.append(Overlay(start, start + length, memory, offset))
        start += length
    return tuple(overlays)


def _begin(case: Case, block: int) -> tuple[int, int]:
    """The file of a RAMBlock's memory, and where in it the block begins."""
    device, area, region = case.ram_blocks[block].device, case.area_of(block), case.region_of(block)
    assert device is not None  # plain RAM is refused
    assert area is not None
    assert region is not None
    file = backing(case, device, region.index)
    return file.memory, file.offset + area.offset
