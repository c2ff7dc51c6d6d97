"""Cases and observations as the world's memory holds them: arrays of 64-bit words.

The layout is that of ``struct vv_request`` and ``struct vv_record`` in pyx/world/internal.h. What comes back is
read with its bounds checked: the process that wrote it ran a subject.
"""

from __future__ import annotations

import errno
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

MAGIC = 0x3171657276696676
NONE = (1 << 64) - 1
TWICE, PARSE_MAPS, BARE = 1, 2, 4
_ZEROED = 16
MMAP_RULES = ("region", "areas", "file")
MSIX = (None, "cut", "mappable")
SESSION_MAGIC = 0x3173736573766676
FIRST, LAST = 1 << 16, 2 << 16

_FIXED = 25
_RECORD = struct.Struct(f"={_FIXED + len(STEPS) + 19}Q")
RECORD_BYTES = _RECORD.size
_MAX_MESSAGE, _MAX_LEFT = 4096, 7  # MESSAGE_BYTES in pyx/world/run.c; enum vv_left in internal.h
_FIVE = struct.Struct("=5Q")
_LOOK, _MAPPING_LOOK = struct.Struct("=8Q"), struct.Struct("=6Q")
_STEP_NUMBER = {step: number for number, step in enumerate(STEPS)}
_FDS = MAX_DEVICES + MAX_FILES + 1
_KIND_NUMBER = {kind: number for number, kind in enumerate(KERNEL_FAULT_KINDS, 1)}


def pack_layout(case: Case, flags: int, n_plans: int) -> bytes:
    """The request's head and arrays: all of a case but its fault plan."""
    devices: list[int] = []
    regions: list[int] = []
    areas: list[int] = []
    area_position: dict[tuple[int | None, int | None, int | None], int] = {}
    n_regions = 0
    for device in case.devices:
        devices += (MMAP_RULES.index(device.mmap_rule), device.region_fds)
    for n_regions, (number, region, memory, offset) in enumerate(backings(case), 1):
        access = 1 | 2 * region.writable | 4 * region.mappable
        regions += (number, region.index, region.size, access, region.areas is not None and region.msix is None)
        regions += (memory, offset, MSIX.index(region.msix))
        for position, area in enumerate(region.mmap_areas()):
            area_position[number, region.index, position] = len(areas) // 3
            areas += (n_regions - 1, area.offset, area.size)
    blocks: list[int] = []
    for number, block in enumerate(case.ram_blocks):
        key = (block.device, block.region, block.area)
        blocks += (area_position.get(key, NONE), case.block_size(number), block.touches)
    segments = segment_words(case.iovec)
    head = (
        *(MAGIC, flags | _ZEROED * (case.variables == "zero")),
        *(len(case.devices), n_regions, len(areas) // 3, len(case.ram_blocks), len(case.iovec), n_plans),
        *(case.total_size, case.errp == "null"),
        *((_KIND_NUMBER[fault.kind], fault.at) if (fault := case.kernel_fault) is not None else (0, 0)),
        _kernel_rules(case.kernel),
        case.page_size,
    )
    words = (*head, *devices, *regions, *areas, *blocks, *segments)
    return struct.pack(f"={len(words)}Q", *words)


def _kernel_rules(kernel: Kernel) -> int:
    """``enum vv_kernel_rules`` in pyx/world/world.h."""
    return kernel.mremap_unmaps | 2 * (not kernel.hints) | 4 * (not kernel.noreplace) | 8 * (not kernel.locks)


def segment_words(iovec: Iterable[Segment]) -> list[int]:
    """Each segment as a block, an offset and a length."""
    words: list[int] = []
    for segment in iovec:
        words += (NONE if segment.block is None else segment.block, segment.offset, segment.length)
    return words


def pack_plan(faults: Sequence[Fault]) -> bytes:
    """One fault plan, as it follows the layout."""
    return struct.pack("=Q", len(faults)) + _pack_faults(faults)


def _pack_faults(faults: Sequence[Fault]) -> bytes:
    words: list[int] = []
    for fault in faults:
        number = getattr(errno, fault.errno)
        words += (_STEP_NUMBER[fault.step], fault.nth, fault.when == "late", number, fault.persistent)
    return struct.pack(f"={len(words)}Q", *words)


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
    words = _RECORD.unpack_from(data)
    size, mapped, address, base, error_given, error_left, error_sets, message_bytes = words[:8]
    pages_before, pages_after, pages_end, fd_before, fd_after = words[8:13]
    heap_live, heap_live_bytes, cached_frees, bad_frees = words[13:17]
    n_events, n_runs, n_strays, n_differences, dropped, pages_compared, pages_total, flags_union = words[17:_FIXED]
    counts = words[_FIXED : _FIXED + len(STEPS)]
    called, second_mapped, _, like_first, second_differences, whole, first_differences, second_flags, left = words[
        _FIXED + len(STEPS) : _FIXED + len(STEPS) + 9
    ]
    *error_at, heap_at, free_at, fds_left, fds_gone = words[_FIXED + len(STEPS) + 9 : _FIXED + len(STEPS) + 15]
    references_kept, references_dropped, read_locks, reference_at = words[_FIXED + len(STEPS) + 15 :]
    truths = mapped, error_given, error_left, called, second_mapped, like_first, whole

    events_end = _RECORD.size + n_events * EVENT.size
    runs_end = events_end + n_runs * _FIVE.size
    strays_end = runs_end + n_strays * _FIVE.size
    differences_end = strays_end + n_differences * _FIVE.size
    if differences_end + message_bytes > size or size > len(data):
        raise DamageError("the worker's reply is damaged: a record is shorter than what it holds")
    if max(truths) > 1 or left > _MAX_LEFT or message_bytes > _MAX_MESSAGE:
        raise DamageError("the worker's reply is damaged: a record holds what no run gives")
    events = data[_RECORD.size : events_end]
    if n_events and max(events.cast("Q")[:: len(Event._fields)]) >= len(STEPS):
        raise DamageError("the worker's reply is damaged: a trace holds what is no step")
    observation = Observation(
        mapped=bool(mapped),
        address=address,
        base=base,
        error_given=bool(error_given),
        error_left=bool(error_left),
        error_sets=error_sets,
        message=bytes(data[differences_end : differences_end + message_bytes]),
        pages_before=pages_before,
        pages_after=pages_after,
        pages_end=pages_end,
        lowest_fd_before=fd_before,
        lowest_fd_after=fd_after,
        heap_live=heap_live,
        heap_live_bytes=heap_live_bytes,
        cached_frees=cached_frees,
        bad_frees=bad_frees,
        events=bytes(events),
        events_dropped=dropped,
        runs=_runs(data[events_end:runs_end]),
        strays=_runs(data[runs_end:strays_end]),
        differences=tuple(map(Difference._make, _FIVE.iter_unpack(data[strays_end:differences_end]))),
        pages_compared=pages_compared,
        pages_total=pages_total,
        flags_union=flags_union,
        counts=counts,
        second=SecondCall(
            mapped=bool(second_mapped),
            like_first=bool(like_first),
            differences=second_differences,
            first_whole=bool(whole),
            first_differences=first_differences,
            starved=bool(second_flags & STARVED),
            left_open=bool(second_flags & LEFT_OPEN),
        )
        if called
        else None,
        left=left,
        block_hosts=head.hosts,
        device_fds=head.fds,
        harness_changes=harness_changes,
        error_at=tuple(at for at in error_at if at != NOWHERE),
        heap_at=heap_at,
        free_at=free_at,
        fds_left=fds_left,
        fds_gone=fds_gone,
        references_kept=references_kept,
        references_dropped=references_dropped,
        read_locks=read_locks,
        reference_at=reference_at,
    )
    return observation, size


def _runs(data: memoryview) -> tuple[Run, ...]:
    """Starts and ends are relative, and may be negative."""
    return tuple(
        Run(signed(start), signed(end), flags, memory, offset)
        for start, end, flags, memory, offset in _FIVE.iter_unpack(data)
    )


def signed(word: int) -> int:
    """A word as a number with a sign."""
    return word - (1 << 64) if word >> 63 else word


def pack_request(case: Case, plans: Iterable[Sequence[Fault]], flags: int) -> bytes:
    """A whole request: the layout of a case, and the fault plans to run it under."""
    packed = [pack_plan(plan) for plan in plans]
    return pack_layout(case, flags, len(packed)) + b"".join(packed)


# ---- sessions ------------------------------------------------------------------------------------------------


def pack_session(world: Case | None, actions: Sequence[Action], flags: int, *, last: bool) -> bytes:
    """Actions in one world: the layout of `world`, with which a session begins, or None to go on with an open one."""
    if world is None:
        head = pack_layout(_NO_WORLD, flags, len(actions))
    else:
        head = pack_layout(replace(world, iovec=()), flags | FIRST, len(actions))
    (head_flags,) = struct.unpack_from("=Q", head, 8)
    begin = struct.pack("=2Q", SESSION_MAGIC, head_flags | LAST * last)
    return begin + head[len(begin) :] + b"".join(map(_pack_action, actions))


_NO_WORLD = Case((), (), (), 0)


def _pack_action(action: Action) -> bytes:
    match action:
        case Call(iovec, total_size, fault_plan):
            words = (0, len(iovec), total_size, len(fault_plan), *segment_words(iovec))
            return struct.pack(f"={len(words)}Q", *words) + _pack_faults(fault_plan)
        case End(mapping):
            return struct.pack("=4Q", 1, mapping, 0, 0)
        case Change(block, offset):
            return struct.pack("=4Q", 2, block, offset, 0)
        case Drop(block):
            return struct.pack("=4Q", 3, block, 0, 0)
        case Fork():
            return struct.pack("=4Q", 4, 0, 0, 0)


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
    size, done, error, left, child, pages, lowest_fd, n_mappings = _LOOK.unpack_from(data)
    if size > len(data):
        raise DamageError("the worker's reply is damaged: a look at the address space is longer than the reply")
    at = _LOOK.size
    mappings = []
    for _ in range(n_mappings):
        number, address, n_runs, n_differences, compared, total = _MAPPING_LOOK.unpack_from(data, at)
        runs_end = at + _MAPPING_LOOK.size + n_runs * _FIVE.size
        end = runs_end + n_differences * _FIVE.size
        if end > size:
            raise DamageError("the worker's reply is damaged: a look is shorter than what it holds")
        mappings.append(
            MappingSeen(
                call=number,
                address=address,
                runs=_runs(data[at + _MAPPING_LOOK.size : runs_end]),
                differences=tuple(map(Difference._make, _FIVE.iter_unpack(data[runs_end:end]))),
                pages_compared=compared,
                pages_total=total,
            )
        )
        at = end
    step = StepSeen(
        call=call,
        done=bool(done),
        errno=error,
        left=left,
        child=child - 1 if child else None,
        pages=pages,
        lowest_fd=lowest_fd,
        mappings=tuple(mappings),
    )
    return step, size
