"""Makes sequences: after a case's call come more calls, ends, changes, drops and forks, in any order.

A later call may be valid, repeat an earlier one, be one to refuse, or fail by plan. Like layouts.py this asks a
`Choices`, of which the lowest is the simplest.
"""

from __future__ import annotations

from msgspec.structs import replace

from vfio_verify.generate.layouts import MALFORMATIONS, Choices, pick, pieces_of
from vfio_verify.values.case import PAGE, Action, Call, Case, Change, Drop, End, Fault, Fork, Step

_KINDS = (
    *("map", "map", "end", "map", "end", "again", "refused", "failed", "failed", "end"),
    *("change", "again", "refused", "end", "change", "drop"),
)
_FORK_EVERY, _MANY_EVERY = 8, 8
"""Sequences. A fork takes as long as the rest of one; many actions fill tables."""

_MANY = 32

_STEPS: tuple[Step, ...] = ("mmap", "mmap", "mmap", "find_block", "region_info", "dup", "find_region", "munmap")
_ERRNOS = ("EINVAL", "ENOMEM", "EAGAIN")


def with_sequence(choices: Choices, case: Case) -> Case:
    """The case, followed by two to eight actions, or by many. The world grows by what a malformation needs."""
    maker = _Maker(choices, case)
    many = choices.integer(0, _MANY_EVERY - 1) == _MANY_EVERY - 1
    for _ in range(_MANY if many else choices.integer(2, 8)):
        maker.add(pick(choices, _KINDS))
    if not choices.integer(0, _FORK_EVERY - 1):
        maker.actions.insert(choices.integer(0, len(maker.actions)), Fork())
    return replace(maker.world, sequence=tuple(maker.actions))


class _Maker:
    """The actions so far, and what there is to act on."""

    def __init__(self, choices: Choices, case: Case) -> None:
        self._choices = choices
        self.world = case
        self.actions: list[Action] = []
        self._calls = [Call(case.iovec, case.total_size, case.fault_plan)]
        self._not_ended = [0]
        self._dropped: set[int] = set()

    def add(self, kind: str) -> None:
        """One more action of a kind, where there is something to do it to."""
        choices = self._choices
        blocks = self._blocks(of_devices=kind != "change")
        if kind == "end" and self._not_ended:
            mapping = pick(choices, self._not_ended)
            self._not_ended.remove(mapping)
            self.actions.append(End(mapping))
        elif kind == "change" and blocks:
            block = self._used_block(blocks)
            pages = self.world.block_size(block) // PAGE
            offset = choices.integer(0, min(pages, 16) - 1) * PAGE + choices.integer(0, 1) * (PAGE - 8)
            self.actions.append(Change(block, offset))
        elif kind == "drop" and len(blocks) > 1:
            block = pick(choices, blocks)
            self._dropped.add(block)
            self.actions.append(Drop(block))
        elif kind == "again" and (again := [c for c in self._calls if self._usable(c)]):
            self._call(pick(choices, again))
        elif blocks:
            self._new_call(kind, blocks)

    def _new_call(self, kind: str, blocks: list[int]) -> None:
        choices = self._choices
        iovec = pieces_of(choices, self.world, pick(choices, blocks))
        call = Call(iovec, sum(segment.length for segment in iovec))
        if kind == "refused":
            call = self._malformed(call)
        elif kind == "failed":
            step = pick(choices, _STEPS)
            nth = choices.integer(1, len(iovec) + 1)
            fault = Fault(step, nth, pick(choices, _ERRNOS), persistent=bool(choices.integer(0, 1)))
            if step == "mmap" and choices.integer(0, 1):
                fault = replace(fault, when="late")
            call = replace(call, fault_plan=(fault,))
        if self._usable(call):
            self._call(call)

    def _malformed(self, call: Call) -> Call:
        """Broken in one way, which may need more in the world: a block of plain RAM, a second device."""
        case = replace(self.world, iovec=call.iovec, total_size=call.total_size)
        broken = MALFORMATIONS[pick(self._choices, tuple(MALFORMATIONS))](self._choices, case)
        own = self.world
        self.world = replace(broken, iovec=own.iovec, total_size=own.total_size)
        return Call(broken.iovec, broken.total_size)

    def _call(self, call: Call) -> None:
        self._not_ended.append(len(self._calls))
        self._calls.append(call)
        self.actions.append(call)

    def _usable(self, call: Call) -> bool:
        return not {segment.block for segment in call.iovec} & self._dropped

    def _blocks(self, *, of_devices: bool) -> list[int]:
        """Those that were not dropped."""
        return [
            number
            for number, block in enumerate(self.world.ram_blocks)
            if number not in self._dropped and (block.device is not None or not of_devices)
        ]

    def _used_block(self, blocks: list[int]) -> int:
        """One that a mapping may show, if there is one."""
        used = {segment.block for call in self._calls for segment in call.iovec}
        return pick(self._choices, [block for block in blocks if block in used] or blocks)
