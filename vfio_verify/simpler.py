"""Simpler cases to try in the place of one, and which of two is the simpler.

A reducer yields candidates from the boldest to the mildest. It may yield what is no case, or is no simpler.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import replace

from vfio_verify.case import (
    PAGE,
    Action,
    Area,
    Call,
    Case,
    Change,
    Device,
    Drop,
    End,
    RamBlock,
    Region,
    Segment,
    check,
)
from vfio_verify.errors import InputError
from vfio_verify.model import expect
from vfio_verify.space import actions_of, alone, with_actions

_FEW_STEPS = 9
"""Of which every pair is tried: most faults of a sequence need two."""


def is_simpler(candidate: Case, than: Case) -> bool:
    """A reducer may make what is no case: two regions of one index, a block that is used after it went."""
    try:
        check(candidate)
    except InputError:
        return False
    return cost(candidate) < cost(than)


def cost(case: Case) -> tuple[Any, ...]:
    """What makes a case hard to read: less is better. A single reason to refuse it counts most."""
    first, second, third = _layout_cost(case.without_faults())
    faults = tuple((f.when == "late", f.persistent, f.nth, f.errno != "EINVAL") for f in case.fault_plan)
    return (
        *first,
        len(case.fault_plan) + (case.kernel_fault is not None),
        *second,
        faults,
        case.kernel_fault.at if case.kernel_fault is not None else 0,
        *third,
    )


@functools.lru_cache(maxsize=16)
def _layout_cost(case: Case) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """What is the same for all faults of a layout: what counts before their number, after it, and after them. Kept,
    since a sweep asks again and again."""
    reasons = {refusal.clause for refusal in expect(case).refusals}
    parts = (
        len(case.devices)
        + sum(len(d.regions) for d in case.devices)
        + sum(len(r.areas) + 1 for d in case.devices for r in d.regions if r.areas is not None)
        + len(case.ram_blocks)
    )
    oddities = sum((d.mmap_rule != "region") + d.region_fds + d.region_files for d in case.devices)
    oddities += (case.errp != "object") + sum(r.offset is not None for d in case.devices for r in d.regions)
    oddities += sum((not r.writable) + (r.index > 0) for d in case.devices for r in d.regions)
    sizes = tuple(sorted((_bits(s.length) + _bits(s.offset) for s in case.iovec), reverse=True))
    first = (
        len(case.earlier),
        tuple(map(cost, case.earlier)),
        len(case.sequence),
        tuple(sorted((_action_cost(case, action) for action in case.sequence), reverse=True)),
        len(case.alongside),
        sum(len(call.iovec) for call in case.alongside),
        max(len(reasons), 1),
    )
    second = (
        len(case.iovec),
        parts,
        oddities,
        sizes,
        _bits(abs(case.total_size - sum(s.length for s in case.iovec))),
        sum(r.size for d in case.devices for r in d.regions),
        sum(r.index for d in case.devices for r in d.regions),
        sum((b.size or 0) for b in case.ram_blocks),
        sum((r.offset or 0) for d in case.devices for r in d.regions),
    )
    third = (
        case.total_size,
        tuple((-1 if s.block is None else s.block, s.offset, s.length) for s in case.iovec),
        tuple((call.total_size, call.iovec != case.iovec) for call in case.alongside),
    )
    return first, second, third


def _action_cost(case: Case, action: Action) -> tuple[Any, ...]:
    """A call is harder to read than what happens between two."""
    if not isinstance(action, Call):
        return (0, isinstance(action, Change | Drop), action.offset if isinstance(action, Change) else 0)
    return (
        1,
        max(len({refusal.clause for refusal in expect(alone(case, action)).refusals}), 1),
        len(action.fault_plan),
        len(action.iovec),
        tuple(sorted((_bits(s.length) + _bits(s.offset) for s in action.iovec), reverse=True)),
        _bits(abs(action.total_size - sum(s.length for s in action.iovec))),
        tuple((f.when == "late", f.persistent, f.nth, f.errno != "EINVAL") for f in action.fault_plan),
        action.total_size,
        tuple((-1 if s.block is None else s.block, s.offset, s.length) for s in action.iovec),
    )


def _bits(number: int) -> tuple[bool, int]:
    """Whole pages read easier than odd bytes."""
    return number % PAGE != 0, number


# ---- reducers: candidates, the boldest first ---------------------------------------------------------------


def _fewer_earlier(case: Case) -> Iterator[Case]:
    for kept in _subsets(case.earlier):
        yield replace(case, earlier=kept)


def _simpler_earlier(case: Case) -> Iterator[Case]:
    for i, before in enumerate(case.earlier):
        for reduce in REDUCERS:
            for simpler in reduce(before):
                yield replace(case, earlier=(*case.earlier[:i], simpler, *case.earlier[i + 1 :]))


def _fewer_steps(case: Case) -> Iterator[Case]:
    """Some of the actions, the first of which is a call; with a call go the actions on its mapping."""
    if not case.sequence:
        return
    actions = actions_of(case)
    positions = tuple(range(len(actions)))
    pairs = itertools.combinations(positions, 2) if len(positions) <= _FEW_STEPS else ()
    for kept in ((0,), *pairs, *_subsets(positions)):
        yield from _with_steps(case, [actions[i] for i in kept], kept)


def _with_steps(case: Case, kept: list[Action], positions: tuple[int, ...]) -> Iterator[Case]:
    """Mappings are counted anew: each keeps its call."""
    calls = [i for i, action in enumerate(actions_of(case)) if isinstance(action, Call)]
    number = {calls.index(i): n for n, i in enumerate(i for i in positions if i in calls)}
    renumbered: list[Action] = []
    for action in kept:
        if not isinstance(action, End):
            renumbered.append(action)
        elif action.mapping in number:
            renumbered.append(End(number[action.mapping]))
    if renumbered and isinstance(renumbered[0], Call):
        yield with_actions(case, renumbered)


def _simpler_steps(case: Case) -> Iterator[Case]:
    """Each later call by the reducers of a case's own; changes at the start of their block."""
    for i, action in enumerate(case.sequence):
        before, after = case.sequence[:i], case.sequence[i + 1 :]
        if isinstance(action, Change) and action.offset:
            for offset in (0, action.offset // PAGE * PAGE):
                yield replace(case, sequence=(*before, replace(action, offset=offset), *after))
        if isinstance(action, Call):
            first = actions_of(case)[0]
            if action != first:
                yield replace(case, sequence=(*before, first, *after))
            for reduce in (_fewer_faults, _fewer_segments, _simpler_segments, _simpler_total, _simpler_faults):
                for simpler in reduce(alone(case, action)):
                    yield replace(case, sequence=(*before, actions_of(simpler)[0], *after))


def _fewer_alongside(case: Case) -> Iterator[Case]:
    """Fewer threads, but never one alone; any of the calls may be the first."""
    for kept in _subsets(case.alongside):
        if kept:
            yield replace(case, alongside=kept)
    for i, call in enumerate(case.alongside):
        first = replace(case, iovec=call.iovec, total_size=call.total_size)
        rest = (*case.alongside[:i], *case.alongside[i + 1 :])
        for others in (rest, (call,)):
            if others:
                yield replace(first, alongside=others)


def _simpler_alongside(case: Case) -> Iterator[Case]:
    """The same iovec in all threads, or fewer and simpler segments in one."""
    own = Call(case.iovec, case.total_size)
    for i, call in enumerate(case.alongside):

        def changed(simpler: Case | Call, i: int = i) -> Case:
            other = Call(simpler.iovec, simpler.total_size)
            return replace(case, alongside=(*case.alongside[:i], other, *case.alongside[i + 1 :]))

        yield changed(own)
        for reduce in (_fewer_segments, _simpler_segments):
            yield from map(changed, reduce(alone(case, call)))


def _fewer_faults(case: Case) -> Iterator[Case]:
    for kept in _subsets(case.fault_plan):
        yield replace(case, fault_plan=kept)
    if case.kernel_fault is not None:
        yield replace(case, kernel_fault=None)


def _fewer_segments(case: Case) -> Iterator[Case]:
    for kept in _subsets(case.iovec):
        smaller = _with_iovec(case, kept)
        yield smaller
        yield from _renumbered_faults(smaller, len(case.iovec) - len(kept))


def _renumbered_faults(case: Case, removed: int) -> Iterator[Case]:
    """With fewer segments, the step that failed has another number."""
    for i, fault in enumerate(case.fault_plan):
        for nth in {1, 2, max(1, fault.nth - removed), max(1, len(case.iovec)), len(case.iovec) + 1} - {fault.nth}:
            plan = (*case.fault_plan[:i], replace(fault, nth=nth), *case.fault_plan[i + 1 :])
            yield replace(case, fault_plan=plan)
    if (kernel := case.kernel_fault) is not None:
        for at in sorted({0, 1, 2, max(0, kernel.at - removed), len(case.iovec) + 1}):
            if at < kernel.at:
                yield replace(case, kernel_fault=replace(kernel, at=at))


def _simpler_faults(case: Case) -> Iterator[Case]:
    yield from _renumbered_faults(case, 1)
    for i, fault in enumerate(case.fault_plan):
        for simpler in (replace(fault, when="early"), replace(fault, errno="EINVAL"), replace(fault, persistent=False)):
            yield replace(case, fault_plan=(*case.fault_plan[:i], simpler, *case.fault_plan[i + 1 :]))


def _simpler_segments(case: Case) -> Iterator[Case]:
    for i, segment in enumerate(case.iovec):
        for simpler in _segment_candidates(segment):
            yield _with_iovec(case, (*case.iovec[:i], simpler, *case.iovec[i + 1 :]))
            yield replace(case, iovec=(*case.iovec[:i], simpler, *case.iovec[i + 1 :]))


def _segment_candidates(segment: Segment) -> Iterator[Segment]:
    odd = segment.length % PAGE
    for length in dict.fromkeys(
        (PAGE, odd, PAGE + odd, 2 * PAGE, _halved(segment.length) + odd, *_stepped(segment.length))
    ):
        if 0 < length < segment.length:
            yield replace(segment, length=length)
    odd = segment.offset % PAGE
    for offset in dict.fromkeys((0, odd, PAGE, _halved(segment.offset) + odd, *_stepped(segment.offset))):
        if 0 <= offset < segment.offset:
            yield replace(segment, offset=offset)
            if segment.length > PAGE:
                yield Segment(segment.block, offset, PAGE)
    if segment.length % PAGE and segment.length > 1:
        yield replace(segment, length=1)
        yield replace(segment, length=segment.length - segment.length % PAGE + 1)
    if segment.offset % PAGE > 1:
        yield replace(segment, offset=segment.offset - segment.offset % PAGE + 1)


def _stepped(number: int) -> Iterator[int]:
    """Less by ever fewer pages: what is least is found in some dozen steps, not page by page."""
    return (number - (PAGE << shift) for shift in reversed(range((number // PAGE).bit_length())))


def _halved(number: int) -> int:
    return number // (2 * PAGE) * PAGE


def _simpler_total(case: Case) -> Iterator[Case]:
    total = sum(s.length for s in case.iovec)
    for by in (0, PAGE, -PAGE, 1, -1):
        if 0 <= total + by < 1 << 64:
            yield replace(case, total_size=total + by)


def _without_unused(case: Case) -> Iterator[Case]:
    """Drop what no segment names: all of it at once, then block by block, device by device."""
    used = {s.block for iovec in _iovecs(case) for s in iovec}
    used |= {action.block for action in case.sequence if isinstance(action, Change | Drop)}
    unused = [i for i in range(len(case.ram_blocks)) if i not in used]
    for gone in ([unused] if len(unused) > 1 else []) + [[i] for i in unused]:
        yield _without_blocks(case, set(gone))
    named = {(b.device, b.region) for b in case.ram_blocks}
    keep = [[r for r in d.regions if (i, r.index) in named] for i, d in enumerate(case.devices)]
    yield replace(case, devices=tuple(replace(d, regions=tuple(k)) for d, k in zip(case.devices, keep, strict=True)))
    for i, device in enumerate(case.devices):
        for region in device.regions:
            if (i, region.index) not in named:
                rest = tuple(r for r in device.regions if r is not region)
                yield _with_device(case, i, replace(device, regions=rest))
        if all(b.device != i for b in case.ram_blocks):
            yield _without_device(case, i)


def _merged_blocks(case: Case) -> Iterator[Case]:
    """All segments in the block of one of them."""
    for block in sorted({s.block for iovec in _iovecs(case) for s in iovec if s.block is not None}):

        def moved(segment: Segment, block: int = block) -> Segment:
            return replace(segment, block=block)

        yield _each_segment(case, moved)
        if case.sequence:
            yield replace(case, iovec=tuple(map(moved, case.iovec)))


def _simpler_world(case: Case) -> Iterator[Case]:
    if case.errp != "object":
        yield replace(case, errp="object")
    for i, device in enumerate(case.devices):
        placed = tuple(replace(region, offset=None) for region in device.regions)
        for simpler in (
            Device(placed),
            replace(device, mmap_rule="region", region_fds=False, region_files=False),
            replace(device, regions=placed),
            replace(device, region_files=False),
            replace(device, mmap_rule="region"),
        ):
            if simpler != device:
                yield _with_device(case, i, simpler)
        for j, region in enumerate(device.regions):
            for smaller in _region_candidates(region):
                regions = (*device.regions[:j], smaller, *device.regions[j + 1 :])
                changed = _with_device(case, i, replace(device, regions=regions))
                yield replace(changed, ram_blocks=tuple(_follow(b, i, region, smaller) for b in changed.ram_blocks))
    for i, block in enumerate(case.ram_blocks):
        if block.size is not None and block.size > PAGE:
            for size in (PAGE, _halved(block.size)):
                blocks = (*case.ram_blocks[:i], RamBlock(size=size or PAGE), *case.ram_blocks[i + 1 :])
                yield replace(case, ram_blocks=blocks)


def _region_candidates(region: Region) -> Iterator[Region]:
    yield replace(region, writable=True)
    yield replace(region, index=0)
    for offset in (None, 0, PAGE):
        if region.offset is not None and (offset or 0) < region.offset + (offset is None):
            yield replace(region, offset=offset)
    if region.areas is None:
        for size in (PAGE, 2 * PAGE, 4 * PAGE, _halved(region.size), *_stepped(region.size)):
            if 0 < size < region.size:
                yield replace(region, size=size)
        return
    yield replace(region, areas=None)
    for kept in _subsets(region.areas):
        if kept:
            yield replace(region, areas=kept, size=kept[-1].offset + kept[-1].size)
    yield replace(region, size=max((a.offset + a.size for a in region.areas), default=region.size))
    packed = tuple(Area((2 * i + 1) * PAGE, PAGE) for i in range(len(region.areas)))
    yield replace(region, areas=packed, size=2 * len(packed) * PAGE)
    for i, area in enumerate(region.areas):
        for smaller in (replace(area, size=PAGE), replace(area, size=_halved(area.size) or PAGE)):
            yield replace(region, areas=(*region.areas[:i], smaller, *region.areas[i + 1 :]))
        low = region.areas[i - 1].offset + region.areas[i - 1].size if i else 0
        for offset in (low, low + PAGE):
            if offset < area.offset:
                yield replace(region, areas=(*region.areas[:i], replace(area, offset=offset), *region.areas[i + 1 :]))


def _follow(block: RamBlock, device: int, before: Region, after: Region) -> RamBlock:
    """A RAMBlock of a region that changed: its new index, and its area's new position if it still exists."""
    if block.device != device or block.region != before.index or block.area is None:
        return block
    area = before.mmap_areas()[block.area]
    areas = after.mmap_areas()
    position = areas.index(area) if area in areas else min(block.area, len(areas) - 1)
    return RamBlock(device, after.index, position)


Reducer = Callable[[Case], Iterator[Case]]
REDUCERS: tuple[Reducer, ...] = (
    *(_fewer_earlier, _fewer_alongside, _fewer_steps, _fewer_faults, _fewer_segments, _without_unused, _merged_blocks),
    *(_simpler_segments, _simpler_total, _simpler_steps, _simpler_world, _simpler_faults, _simpler_earlier),
    _simpler_alongside,
)


# ---- building blocks ------------------------------------------------------------------------------------------


def _subsets(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Less and less is taken away: everything, halves, quarters, down to single ones."""
    if not items:
        return
    yield ()
    size = len(items) // 2
    while size:
        for start in range(0, len(items), size):
            kept = items[:start] + items[start + size :]
            if kept:
                yield kept
        size //= 2


def _with_iovec(case: Case, iovec: tuple[Segment, ...]) -> Case:
    """Other segments, and a total that is off by as much as it was."""
    off_by = case.total_size - sum(s.length for s in case.iovec)
    total = sum(s.length for s in iovec) + off_by
    return replace(case, iovec=iovec, total_size=max(0, total) % (1 << 64))


def _with_device(case: Case, position: int, device: Device) -> Case:
    return replace(case, devices=(*case.devices[:position], device, *case.devices[position + 1 :]))


def _without_blocks(case: Case, gone: set[int]) -> Case:
    kept = [i for i in range(len(case.ram_blocks)) if i not in gone]
    number = {old: new for new, old in enumerate(kept)}
    sequence = tuple(
        replace(action, block=number[action.block]) if isinstance(action, Change | Drop) else action
        for action in case.sequence
    )
    case = replace(case, ram_blocks=tuple(case.ram_blocks[i] for i in kept), sequence=sequence)
    return _each_segment(case, lambda s: s if s.block is None else replace(s, block=number[s.block]))


def _iovecs(case: Case) -> list[tuple[Segment, ...]]:
    """Of all calls of a case."""
    own = [action.iovec for action in actions_of(case) if isinstance(action, Call)]
    return [*own, *(call.iovec for call in case.alongside)]


def _each_segment(case: Case, change: Callable[[Segment], Segment]) -> Case:
    """Every segment of every call changed."""
    alongside = tuple(replace(call, iovec=tuple(map(change, call.iovec))) for call in case.alongside)
    return with_actions(
        replace(case, alongside=alongside),
        [
            replace(action, iovec=tuple(map(change, action.iovec))) if isinstance(action, Call) else action
            for action in actions_of(case)
        ],
    )


def _without_device(case: Case, position: int) -> Case:
    def renumber(block: RamBlock) -> RamBlock:
        if block.device is None or block.device < position:
            return block
        return replace(block, device=block.device - 1)

    devices = case.devices[:position] + case.devices[position + 1 :]
    return replace(case, devices=devices, ram_blocks=tuple(map(renumber, case.ram_blocks)))
