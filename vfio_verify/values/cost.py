"""What makes a case hard to read, and which of two is the simpler.

No two cases cost the same, so that the simplest of several is the same one whatever order they are tried in.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo

from vfio_verify.errors import InputError
from vfio_verify.values.case import PAGE, Action, Call, Case, Change, Device, Drop, Fault, RamBlock, check
from vfio_verify.values.model import expect
from vfio_verify.values.observation import STEPS
from vfio_verify.values.space import alone

_STRUCTURE = frozenset(
    (
        *("fault_plan", "kernel_fault", "sequence", "concurrent", "earlier", "assume"),
        *("areas", "device", "region", "area", "size"),
    )
)
"""Fields that say what there is in a world or what happens in it, and under which conventions. All others should have
their defaults."""

_A_FEW_PAGES = 16
_ODD = 2


def is_simpler(candidate: Case, than: Case) -> bool:
    """A reducer may make what is no case: two regions of one index, a block that is used after it went."""
    try:
        check(candidate)
    except InputError:
        return False
    return cost(candidate) < cost(than)


def cost(case: Case) -> tuple[Any, ...]:
    """Less is better. A single reason to refuse a case counts most, then how many things there are in it, then how odd
    they are, then how large."""
    first, second, third = _layout_cost(case.without_faults())
    kernel = case.kernel_fault
    return (
        *first,
        len(case.fault_plan) + (kernel is not None),
        *second,
        tuple(map(_fault_cost, case.fault_plan)),
        kernel.at if kernel is not None else 0,
        *third,
        kernel.kind if kernel is not None else "",
    )


@functools.lru_cache(maxsize=16)
def _layout_cost(case: Case) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """What is the same for all faults of a layout: what counts before their number, after it, and after them. Kept,
    since a sweep asks again and again."""
    reasons = {refusal.clause for refusal in expect(case).refusals}
    regions = [region for device in case.devices for region in device.regions]
    areas = [area for region in regions for area in region.areas or ()]
    things = parts(case.devices, case.ram_blocks)
    first = (
        sum(1 + len(before.sequence) for before in case.earlier),
        sum(len(before.sequence) for before in case.earlier),
        tuple(map(cost, case.earlier)),
        len(case.sequence),
        tuple(sorted((_action_cost(case, action) for action in case.sequence), reverse=True)),
        len(case.concurrent),
        sum(len(call.iovec) for call in case.concurrent),
        max(len(reasons), 1),
    )
    second = (
        len(case.iovec),
        things + oddities(case),
        things,
        sizes(case.iovec),
        _bits(abs(case.total_size - sum(s.length for s in case.iovec))),
        sum(r.size for r in regions),
        sum(r.index for r in regions),
        sum((b.size or 0) for b in case.ram_blocks),
        sum(a.offset + a.size for a in areas),
    )
    third = (
        case.total_size,
        tuple(map(_segment_key, case.iovec)),
        tuple((call.total_size, call.iovec != case.iovec) for call in case.concurrent),
        _key((case.devices, case.ram_blocks, case.concurrent, case.sequence, case.assume)),
        _key([(name, getattr(case, name)) for name in odd_fields(case)]),
    )
    return first, second, third


def parts(devices: Sequence[Device], blocks: Sequence[RamBlock]) -> int:
    """How many things there are in a world."""
    regions = [region for device in devices for region in device.regions]
    areas = sum(len(region.areas) + 1 for region in regions if region.areas is not None)
    return len(devices) + len(regions) + areas + len(blocks)


def oddities(case: Case) -> int:
    """How many fields of the case and its world have another value than their default. One of them is as hard to read
    as two things more; a higher index or a size in mid-page is as one."""
    regions = [region for device in case.devices for region in device.regions]
    odd = sum(len(odd_fields(part)) for part in (case, *case.devices, *regions, *case.ram_blocks))
    areas = (area.size for r in regions for area in r.areas or ())
    world = (*(r.size for r in regions), *areas, *(b.size or 0 for b in case.ram_blocks))
    return _ODD * odd + sum(r.index > 0 for r in regions) + sum(size % PAGE > 0 for size in world)


def odd_fields(part: Struct) -> list[str]:
    """Names of the fields that have another value than their default, but for those that are structure."""
    return [name for name, default in defaults_of(type(part)).items() if getattr(part, name) != default]


@functools.cache
def defaults_of(kind: type[Struct]) -> dict[str, Any]:
    """The plain value of each field that may have another one: a field added to a case costs without being named."""
    return {
        field.name: _default(field)
        for field in msgspec.structs.fields(kind)
        if not field.required and field.name not in _STRUCTURE
    }


def _default(field: FieldInfo) -> Any:
    return field.default_factory() if field.default is NODEFAULT else field.default


def _action_cost(case: Case, action: Action) -> tuple[Any, ...]:
    """A call is harder to read than what happens between two."""
    if not isinstance(action, Call):
        return (0, isinstance(action, Change | Drop), action.offset if isinstance(action, Change) else 0)
    return (
        1,
        max(len({refusal.clause for refusal in expect(alone(case, action)).refusals}), 1),
        len(action.fault_plan),
        len(action.iovec),
        sizes(action.iovec),
        _bits(abs(action.total_size - sum(s.length for s in action.iovec))),
        tuple(map(_fault_cost, action.fault_plan)),
        action.total_size,
        tuple(map(_segment_key, action.iovec)),
    )


def _fault_cost(fault: Fault) -> tuple[Any, ...]:
    step = STEPS.index(fault.step)
    return (fault.when == "late", fault.persistent, fault.nth, step, fault.errno != "EINVAL", fault.errno)


def sizes(iovec: Iterable[Any]) -> tuple[Any, ...]:
    """The sizes of the segments, the largest first: what is not round counts as larger, then what ends later."""
    return tuple(sorted(map(_size, iovec), reverse=True))


def _size(segment: Any) -> tuple[int, int, int, int]:
    (odd, not_round, length), (odd_offset, offset_not_round, offset) = map(_bits, (segment.length, segment.offset))
    # Few pages are told by their number; many read better from the start of their block on.
    than_as_long = segment.length if segment.length < _A_FEW_PAGES * PAGE else segment.offset
    return odd + odd_offset, not_round + offset_not_round, length + offset, than_as_long


def _segment_key(segment: Any) -> tuple[int, int, int]:
    return (-1 if segment.block is None else segment.block, segment.offset, segment.length)


def _bits(number: int) -> tuple[bool, int, int]:
    """Whole pages read easier than odd bytes, a few or a power of two easier than any number of them, and what wraps
    around 2**64 reads as so much less than 0."""
    if number >> 63:
        return number % PAGE != 0, 2, (1 << 64) - number
    pages = number // PAGE
    return number % PAGE != 0, int(pages >= _A_FEW_PAGES and pages.bit_count() > 2), number


def _key(value: Any) -> tuple[Any, ...]:
    """Orders any two values of a case, also those of different kinds."""
    if isinstance(value, Struct):
        return (3, type(value).__name__, tuple(_key(getattr(value, name)) for name in value.__struct_fields__))
    if isinstance(value, tuple | list):
        return (2, len(value), tuple(map(_key, value)))
    if isinstance(value, str):
        return (1, value)
    return (0, 0, -1) if value is None else (0, 1, int(value))
