"""FAULT_REPORTED: which failed steps were made up for, by the same step again or by another way to the same end.

What counts for a mapping step is the result: the pages that it was to give, as the kernel lists them when the call
returns. A look-up has no result that can be looked at. What it was to tell must have been told by another.
"""

from __future__ import annotations

from collections.abc import Iterator

from vfio_verify.judge.facts import MMAP, MREMAP, MUNMAP, Facts
from vfio_verify.values.observation import FAULTED, NOTHING, STEPS, Event

FIND_DEVICE, FIND_BLOCK, FIND_INDEX, FIND_REGION, REGION_INFO, REGION_FD = map(
    STEPS.index, ("find_device", "find_block", "find_index", "find_region", "region_info", "region_fd")
)
_LOOK_UPS = (FIND_DEVICE, FIND_BLOCK, FIND_INDEX, FIND_REGION, REGION_INFO, REGION_FD)
_MUST_SUCCEED = {MMAP, MREMAP, *_LOOK_UPS}
"""Steps whose failure the caller must hear of. The rest are cleanup, or are seen by their results."""

_BY_ADDRESS, _WITH_BLOCK = 3, 4
"""Shapes of vfio_device_lookup() in an event: both take an address, the second gives its RAMBlock as well."""

_Told = tuple[str, int, int]
"""Something that a look-up tells: of what, and which. Of a block: its number. Of a region: its device and index."""


def must_succeed(step: int) -> bool:
    """Whether the caller must hear of a step's failure."""
    return step in _MUST_SUCCEED


def unanswered_faults(facts: Facts) -> list[Event]:
    """Failed steps that mattered, and that nothing made up for. A call that failed has reported them."""
    failed = [(i, event) for i in facts.failed_steps if must_succeed((event := facts.seen.event(i)).step)]
    if not facts.seen.mapped:
        return [event for _, event in failed]
    look_ups = _LookUps(facts) if any(event.step in _LOOK_UPS for _, event in failed) else None
    return [
        event
        for i, event in failed
        if not (
            look_ups.made_up_for(i, event)
            if look_ups is not None and event.step in _LOOK_UPS
            else _is_mapped_after_all(facts, i, event)
        )
    ]


# ---- mappings ------------------------------------------------------------------------------------------------


def _is_mapped_after_all(facts: Facts, number: int, event: Event) -> bool:
    if not facts.expected.may_map:
        return True  # it must not be mapped at all: another clause says so, and there is no right result
    start = event.a0 - facts.seen.address
    end = start + facts.round_up(event.a1)
    in_result = event.step == MMAP and start >= 0 and end <= facts.length
    wrong = [(s, e) for s, e in facts.wrong_pages if not in_result or (s < end and start < e)]
    return not wrong or _is_done_again(facts, number, event, lasting=in_result)


def _is_done_again(facts: Facts, number: int, event: Event, *, lasting: bool) -> bool:
    """Whether the very same step succeeded later, and (`lasting`) nothing took its place after that. Then the failure
    is not why the pages are wrong."""
    again = False
    for i in range(number + 1, facts.seen.n_events):
        later = facts.seen.event(i)
        if later.errno or later.step not in (MMAP, MREMAP, MUNMAP):
            continue
        if (later.step, *later[2:8]) == (event.step, *event[2:8]):
            again = True
        elif lasting and again:
            start = later.a0 if later.step == MUNMAP else later.result
            length = later.a2 if later.step == MREMAP else later.a1
            if start < event.a0 + event.a1 and event.a0 < start + length:
                again = False
    return again


# ---- look-ups ------------------------------------------------------------------------------------------------


class _LookUps:
    """What the look-ups of a run that succeeded have told, and when."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        failed = set(facts.failed_steps)
        self._done = [
            (i, event)
            for i, step in enumerate(facts.seen.column("step"))
            if step in _LOOK_UPS and i not in failed and _found(event := facts.seen.event(i))
        ]

    def made_up_for(self, number: int, event: Event) -> bool:
        """Whether it was made again with success, or others told the same. What an earlier look-up of the same kind
        told does not count: a subject that asks again and goes on after an error ignores that error."""
        wanted = set(self._tells(event))
        same = {i for i, done in self._done if done.step == event.step and wanted <= set(self._tells(done))}
        if any(i > number for i in same):
            return True
        if not self._facts.expected.may_map or self._facts.wrong_pages:
            return False
        others = [(i, done) for i, done in self._done if i not in same]
        later = {told for i, done in others if i > number for told in self._tells(done)}
        if wanted <= later:
            return True
        ever = {told for _, done in others for told in (*self._tells(done), *self._shows(done))}
        # No other look-up tells a descriptor, but it may be the device's, and the right one: the mapping says so.
        return not same and (event.step == REGION_FD or wanted <= ever)

    def _tells(self, event: Event) -> Iterator[_Told]:
        """What a look-up tells, or would have told had it not failed."""
        step = event.step
        if step == REGION_INFO:
            yield "offset", event.a1, event.a0
        elif step == REGION_FD:
            yield "fd", event.a1, event.a0
        elif step == FIND_BLOCK:
            yield "block", event.a0, 0
        elif step == FIND_DEVICE:
            block = self._block_at(event.a0) if event.a2 in (_BY_ADDRESS, _WITH_BLOCK) else event.a0
            yield "device", block, 0
            if event.a2 == _WITH_BLOCK:
                yield "block", event.a0, 0
        else:
            yield "index", event.a0, 0
            if step == FIND_REGION:
                yield "device", event.a0, 0
                device, index = self._region(event.a0)
                yield "offset", device, index

    def _shows(self, event: Event) -> Iterator[_Told]:
        """What a look-up shows to be known: who asks a device about a region has found the device, perhaps in the list
        of all devices, which is no look-up that is seen."""
        if event.step in (REGION_INFO, REGION_FD):
            for number, block in enumerate(self._facts.case.ram_blocks):
                if block.device == event.a1:
                    yield "device", number, 0

    def _region(self, block: int) -> tuple[int, int]:
        blocks = self._facts.case.ram_blocks
        region = self._facts.case.region_of(block) if block < len(blocks) else None
        device = blocks[block].device if block < len(blocks) else None
        return (NOTHING, block) if region is None or device is None else (device, region.index)

    def _block_at(self, address: int) -> int:
        for number, host in enumerate(self._facts.seen.block_hosts):
            if host <= address < host + self._facts.case.block_size(number):
                return number
        return NOTHING


def _found(event: Event) -> bool:
    return not event.errno and event.result != NOTHING and not event.flags & FAULTED
