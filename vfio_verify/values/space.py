"""The address space as it must be after each step of a sequence: which mappings live, and what each shows.

Computed from the case, and from which calls said that they mapped; it shares no code with any subject.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.values.case import Action, Call, Case, Policy
from vfio_verify.values.model import Expectation, expect
from vfio_verify.values.observation import READ, SHARED, Run


class LiveMapping(Struct, frozen=True):
    """A mapping that a call returned and nobody ended. `runs` are its pages as the kernel must list them."""

    call: int
    length: int
    """A number of bytes, in whole pages."""
    runs: tuple[Run, ...]


def actions_of(case: Case) -> tuple[Action, ...]:
    """The case's own call, and what is done after it."""
    return (Call(case.iovec, case.total_size, case.fault_plan), *case.sequence)


def with_actions(case: Case, actions: Iterable[Action]) -> Case:
    """The case whose own call is the first action, which is one, and whose sequence is the rest."""
    first, *rest = actions
    assert isinstance(first, Call)
    own = {"iovec": first.iovec, "total_size": first.total_size, "fault_plan": first.fault_plan}
    return replace(case, **own, sequence=tuple(rest))


def alone(case: Case, call: Call) -> Case:
    """One call of a sequence, or of several at once, as a case of its own, in the same world before anything was done
    there."""
    return replace(with_actions(case, [call]), earlier=(), concurrent=())


class Space:
    """The mappings that live, step by step."""

    def __init__(self, case: Case, policy: Policy = "same-block") -> None:
        self.case, self._policy = case, policy
        self._calls = 0
        self.live: dict[int, LiveMapping] = {}

    def expectation(self, call: Call) -> Expectation:
        """What a call must answer while no step of it fails: the same at any time."""
        return expect(alone(self.case, call), self._policy)

    def map(self, call: Call, *, mapped: bool) -> LiveMapping | None:
        """A call answered. The mapping that lives from now on, None where it failed, or mapped what it must not."""
        number, self._calls = self._calls, self._calls + 1
        expected = self.expectation(call)
        if not mapped or not expected.may_map:
            return None
        runs = tuple(Run(o.start, o.end, READ | SHARED, o.memory, o.offset) for o in expected.overlays)
        self.live[number] = LiveMapping(number, runs[-1].end, runs)
        return self.live[number]

    def end(self, call: int) -> LiveMapping | None:
        """A call's mapping is not followed any more: it was ended, or was wrong from the start."""
        return self.live.pop(call, None)
