"""Cases and observations as the world's memory holds them: arrays of 64-bit words, laid out as in native.py.

What comes back is read with its bounds checked: the process that wrote it ran a subject.
"""

from __future__ import annotations

import errno
import functools
import itertools
import operator
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from vfio_verify.errors import HarnessError
from vfio_verify.values.backing import backings
from vfio_verify.values.case import (
    KERNEL_FAULT_KINDS,
    MAX_BLOCKS,
    MAX_DEVICES,
    MAX_FILES,
    Action,
    Call,
    Case,
    Change,
    Drop,
    End,
    Fault,
    Fork,
    Kernel,
    Segment,
)
from vfio_verify.values.observation import (
    EVENT,
    LEFT_OPEN,
    NOWHERE,
    STARVED,
    STEPS,
    Difference,
    Event,
    MappingSeen,
    Observation,
    Run,
    SecondCall,
    StepSeen,
)
from vfio_verify.worker import native

_CONVERTED = 14
"""So many fields an observation begins with. Then come those of a record that it has as they are."""
_SAME = tuple(itertools.takewhile(native.Record._fields.__contains__, Observation.__struct_fields__[_CONVERTED:]))
_same_of = operator.attrgetter(*_SAME)
_as_record = functools.partial(tuple.__new__, native.Record)
_STEP_NUMBER = {step: number for number, step in enumerate(STEPS)}
_FDS = MAX_DEVICES + MAX_FILES + 1
_KIND_NUMBER = {kind: number for number, kind in enumerate(KERNEL_FAULT_KINDS, 1)}


def pack_layout(case: Case, flags: int, n_plans: int, magic: int = native.REQUEST_MAGIC) -> bytes:
    """The request's head and arrays: all of a case but its fault plan."""
    devices: list[int] = []
    regions: list[native.RegionWords] = []
    areas: list[int] = []
    area_position: dict[tuple[int | None, int | None, int | None], int] = {}
    for device in case.devices:
        devices += (native.MMAP_RULES.index(device.mmap_rule), device.region_fds)
    for number, region, memory, offset in backings(case):
        for position, area in enumerate(region.mmap_areas()):
            area_position[number, region.index, position] = len(areas) // 3
            areas += (len(regions), area.offset, area.size)
        words = native.RegionWords(
            device=number,
            index=region.index,
            size=region.size,
            flags=1 | 2 * region.writable | 4 * region.mappable,
            sparse=region.areas is not None and region.msix is None,
            memory=memory,
            offset=offset,
            msix=native.MSIX.index(region.msix),
        )
        regions.append(words)
    blocks: list[int] = []
    for number, block in enumerate(case.ram_blocks):
        key = (block.device, block.region, block.area)
        blocks += (area_position.get(key, native.NONE), case.block_size(number), block.touches)
    fault = case.kernel_fault
    head = native.RequestHead(
        magic=magic,
        flags=flags | native.ZEROED * (case.variables == "zero"),
        n_devices=len(case.devices),
        n_regions=len(regions),
        n_areas=len(areas) // 3,
        n_blocks=len(case.ram_blocks),
        n_segments=len(case.iovec),
        n_plans=n_plans,
        total_size=case.total_size,
        null_errp=case.errp == "null",
        kernel_kind=0 if fault is None else _KIND_NUMBER[fault.kind],
        kernel_at=0 if fault is None else fault.at,
        kernel_rules=_kernel_rules(case.kernel),
        page_size=case.page_size,
        conventions=sum(1 << native.CONVENTIONS.index(one) for one in case.assume),
    )
    arrays = (*devices, *itertools.chain.from_iterable(regions), *areas, *blocks, *segment_words(case.iovec))
    return native.pack_words((*head, *arrays))


def _kernel_rules(kernel: Kernel) -> int:
    """``enum vv_kernel_rules``."""
    return kernel.mremap_unmaps | 2 * (not kernel.hints) | 4 * (not kernel.noreplace) | 8 * (not kernel.locks)


def segment_words(iovec: Iterable[Segment]) -> list[int]:
    """Each segment as a block, an offset and a length."""
    words: list[int] = []
    for segment in iovec:
        words += (native.NONE if segment.block is None else segment.block, segment.offset, segment.length)
    return words


def _fault_words(faults: Sequence[Fault]) -> list[int]:
    words: list[int] = []
    for fault in faults:
        number, code = _STEP_NUMBER[fault.step], getattr(errno, fault.errno)
        words += native.FaultWords(
            number, fault.nth, when=fault.when == "late", error=code, persistent=fault.persistent
        )
    return words


def pack_request(case: Case, plans: Iterable[Sequence[Fault]], flags: int) -> bytes:
    """A whole request: the layout of a case, and the fault plans to run it under."""
    packed = [native.pack_words((len(plan), *_fault_words(plan))) for plan in plans]
    return pack_layout(case, flags, len(packed)) + b"".join(packed)


class DamageError(HarnessError):
    """A reply that no worker writes by itself: a subject wrote over its memory."""


@contextmanager
def reading() -> Iterator[None]:
    """What cannot be read raises DamageError in here."""
    try:
        yield
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise DamageError(f"the worker's reply is damaged: {error}") from error


def unpack_reply(reply: memoryview, finished: int, harness_changes: int) -> list[Observation]:
    """The observations of a reply, in the order of the plans. Raises DamageError."""
    with reading():
        head = unpack_head(reply)
        at = head.size
        observations = []
        for _ in range(finished):
            observation, size = unpack_record(reply[at:], head, harness_changes)
            observations.append(observation)
            at += size
    return observations


class Head(NamedTuple):
    """What a reply begins with: the descriptors of the devices, of regions with files of their own, and of plain RAM,
    and the RAM blocks' addresses."""

    fds: tuple[int, ...]
    hosts: tuple[int, ...]

    @property
    def size(self) -> int:
        return 8 * (1 + len(self.fds) + len(self.hosts))


HEAD_BYTES = 8 * (1 + _FDS + MAX_BLOCKS)
"""The longest head."""


def unpack_head(reply: memoryview) -> Head:
    """Read the head of a reply."""
    (n_blocks,) = struct.unpack_from("=Q", reply)
    words = struct.unpack_from(f"={_FDS + min(n_blocks, MAX_BLOCKS)}Q", reply, 8)
    return Head(words[:_FDS], words[_FDS:])


def unpack_record(data: memoryview, head: Head, harness_changes: int) -> tuple[Observation, int]:
    """One record, and its size in bytes."""
    record: native.Record = _as_record(native.RECORD.unpack_from(data))
    events_end = native.RECORD.size + record.n_events * EVENT.size
    runs_end = events_end + record.n_vmas * native.VMA.size
    strays_end = runs_end + record.n_strays * native.VMA.size
    differences_end = strays_end + record.n_differences * native.DIFFERENCE.size
    message_end = differences_end + record.message_bytes
    if not message_end <= record.bytes <= len(data):
        raise DamageError("the worker's reply is damaged: a record is shorter than what it holds")
    truths = (
        *(record.mapped, record.error_given, record.error_left),
        *(record.second_called, record.second_mapped, record.second_like_first, record.first_whole_after),
    )
    if max(truths) > 1 or record.left > native.ALL_LEFT or record.message_bytes > native.MESSAGE_BYTES:
        raise DamageError("the worker's reply is damaged: a record holds what no run gives")
    events = data[native.RECORD.size : events_end]
    if record.n_events and max(events.cast("Q")[:: len(Event._fields)].tolist()) >= len(STEPS):
        raise DamageError("the worker's reply is damaged: a trace holds what is no step")
    observation = Observation(
        bool(record.mapped),
        bool(record.error_given),
        bool(record.error_left),
        bytes(data[differences_end:message_end]),  # message
        bytes(events),
        _runs(data[events_end:runs_end]),
        _runs(data[runs_end:strays_end]),
        _differences(data[strays_end:differences_end]),
        native.COUNTS.unpack(record.counts),
        _second_call(record) if record.second_called else None,
        tuple(at for at in (record.error_at, record.error_again_at) if at != NOWHERE),
        head.hosts,
        head.fds,
        harness_changes,
        *_same_of(record),
    )
    return observation, record.bytes


def _second_call(record: native.Record) -> SecondCall:
    return SecondCall(
        mapped=bool(record.second_mapped),
        like_first=bool(record.second_like_first),
        differences=record.second_differences,
        first_whole=bool(record.first_whole_after),
        first_differences=record.first_differences_after,
        starved=bool(record.second_flags_union & STARVED),
        left_open=bool(record.second_flags_union & LEFT_OPEN),
    )


def _runs(data: memoryview) -> tuple[Run, ...]:
    return tuple(map(Run._make, native.VMA.iter_unpack(data))) if data else ()


def _differences(data: memoryview) -> tuple[Difference, ...]:
    return tuple(map(Difference._make, native.DIFFERENCE.iter_unpack(data))) if data else ()


def signed(word: int) -> int:
    """A word as a number with a sign."""
    return word - (1 << 64) if word >> 63 else word


# ---- sessions ------------------------------------------------------------------------------------------------


def pack_session(world: Case | None, actions: Sequence[Action], flags: int, *, last: bool) -> bytes:
    """Actions in one world: the layout of `world`, with which a session begins, or None to go on with an open one."""
    layout = _NO_WORLD if world is None else replace(world, iovec=())
    flags |= native.LAST * last | native.FIRST * (world is not None)
    return pack_layout(layout, flags, len(actions), native.SESSION_MAGIC) + b"".join(map(_pack_action, actions))


_NO_WORLD = Case((), (), (), 0)


def _pack_action(action: Action) -> bytes:
    match action:
        case Call(iovec, total_size, fault_plan):
            head = (native.CALL, len(iovec), total_size, len(fault_plan))
            return native.pack_words((*head, *segment_words(iovec), *_fault_words(fault_plan)))
        case End(mapping):
            return native.pack_words((native.END, mapping, 0, 0))
        case Change(block, offset):
            return native.pack_words((native.CHANGE, block, offset, 0))
        case Drop(block):
            return native.pack_words((native.DROP, block, 0, 0))
        case Fork():
            return native.pack_words((native.FORK, 0, 0, 0))


def unpack_session(reply: memoryview, actions: Sequence[Action]) -> list[StepSeen]:
    """What was seen of these actions, which are those that finished. Raises DamageError if the reply is damaged."""
    with reading():
        head = unpack_head(reply)
        at = head.size
        steps = []
        for action in actions:
            call = None
            if isinstance(action, Call):
                call, size = unpack_record(reply[at:], head, 0)
                at += size
            step, size = _unpack_look(reply[at:], call)
            steps.append(step)
            at += size
    return steps


def _unpack_look(data: memoryview, call: Observation | None) -> tuple[StepSeen, int]:
    look = native.Look._make(native.LOOK.unpack_from(data))
    if look.bytes > len(data):
        raise DamageError("the worker's reply is damaged: a look at the address space is longer than the reply")
    at = native.LOOK.size
    mappings = []
    for _ in range(look.n_mappings):
        mapping = native.MappingLook._make(native.MAPPING_LOOK.unpack_from(data, at))
        runs_end = at + native.MAPPING_LOOK.size + mapping.n_vmas * native.VMA.size
        end = runs_end + mapping.n_differences * native.DIFFERENCE.size
        if end > look.bytes:
            raise DamageError("the worker's reply is damaged: a look is shorter than what it holds")
        seen = MappingSeen(
            call=mapping.call,
            address=mapping.address,
            runs=_runs(data[at + native.MAPPING_LOOK.size : runs_end]),
            differences=_differences(data[runs_end:end]),
            pages_compared=mapping.pages_compared,
            pages_total=mapping.pages_total,
        )
        mappings.append(seen)
        at = end
    step = StepSeen(
        call=call,
        done=bool(look.done),
        errno=look.error,
        left=look.left,
        child=look.child - 1 if look.child else None,
        pages=look.pages,
        mappings=tuple(mappings),
    )
    return step, look.bytes
