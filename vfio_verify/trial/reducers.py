"""Reducers: what makes a case simpler.

A reducer yields candidates from the boldest to the mildest. A candidate may be no valid case, or no simpler.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from vfio_verify.trial.reduce_calls import (
    alike_segments,
    evened_segments,
    fewer_faults,
    fewer_segments,
    joined_segments,
    simpler_faults,
    simpler_segments,
    simpler_total,
    swapped_segments,
)
from vfio_verify.trial.reduce_world import (
    areas_as_regions,
    blocks_cut_at_the_start,
    blocks_of_devices,
    defaults,
    lower_indexes,
    merged_devices,
    numbers_lowered_together,
    pages_of_this_machine,
    put_at,
    simpler_areas,
    smaller_blocks,
    subsets,
    swapped_blocks,
    without_unused,
)
from vfio_verify.values.case import PAGE, Action, Call, Case, Change, End
from vfio_verify.values.space import actions_of, alone, with_actions

_FEW_STEPS = 9
"""In sequences of up to so many steps every pair is tried: most faults of a sequence need two."""

Reducer = Callable[[Case], Iterator[Case]]


# ---- calls before, after and beside the case's own ----------------------------------------------------------


def _fewer_earlier(case: Case) -> Iterator[Case]:
    for kept in subsets(case.earlier):
        yield replace(case, earlier=kept)


def _simpler_earlier(case: Case) -> Iterator[Case]:
    """An earlier call becomes like the case itself, loses what followed it, or is reduced."""
    own = replace(case, earlier=())
    for i, before in enumerate(case.earlier):
        if before.sequence:
            apart = (alone(before, action) for action in actions_of(before) if isinstance(action, Call))
            yield replace(case, earlier=(*case.earlier[:i], *apart, *case.earlier[i + 1 :]))
        for like in (own, own.without_faults()):
            yield replace(case, earlier=put_at(case.earlier, i, like))
        for reduce in REDUCERS:
            for simpler in reduce(before):
                yield replace(case, earlier=put_at(case.earlier, i, simpler))


def _fewer_steps(case: Case) -> Iterator[Case]:
    """Some of the actions stay, the first of which is a call. With a call go the actions on its mapping."""
    if not case.sequence:
        return
    actions = actions_of(case)
    positions = tuple(range(len(actions)))
    pairs = itertools.combinations(positions, 2) if len(positions) <= _FEW_STEPS else ()
    for kept in ((0,), *pairs, *subsets(positions)):
        yield from _with_steps(case, [actions[i] for i in kept], kept)


def _with_steps(case: Case, kept: list[Action], positions: tuple[int, ...]) -> Iterator[Case]:
    """The case with these actions. Mappings are numbered anew, so that each keeps its call."""
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
    """A later call is reduced as the first one is; a change moves to the start of its block."""
    for i, action in enumerate(case.sequence):
        if isinstance(action, Change) and action.offset:
            for offset in (0, action.offset // PAGE * PAGE):
                yield replace(case, sequence=put_at(case.sequence, i, replace(action, offset=offset)))
        if isinstance(action, Call):
            first = actions_of(case)[0]
            if action != first:
                yield replace(case, sequence=put_at(case.sequence, i, first))
            for reduce in _OF_A_CALL:
                for simpler in reduce(alone(case, action)):
                    yield replace(case, sequence=put_at(case.sequence, i, actions_of(simpler)[0]))


def _fewer_concurrent(case: Case) -> Iterator[Case]:
    """Fewer threads call, but never one alone. Any of the calls may be the first."""
    for kept in subsets(case.concurrent):
        if kept:
            yield replace(case, concurrent=kept)
    for i, call in enumerate(case.concurrent):
        first = replace(case, iovec=call.iovec, total_size=call.total_size)
        rest = (*case.concurrent[:i], *case.concurrent[i + 1 :])
        for others in (rest, (call,)):
            if others:
                yield replace(first, concurrent=others)


def _simpler_concurrent(case: Case) -> Iterator[Case]:
    """A concurrent call becomes like the first one, or has fewer and simpler segments."""
    own = Call(case.iovec, case.total_size)
    for i, call in enumerate(case.concurrent):

        def changed(simpler: Case | Call, i: int = i) -> Case:
            return replace(case, concurrent=put_at(case.concurrent, i, Call(simpler.iovec, simpler.total_size)))

        yield changed(own)
        for reduce in (fewer_segments, alike_segments, simpler_segments, simpler_total):
            yield from map(changed, reduce(alone(case, call)))


# ---- all of them --------------------------------------------------------------------------------------------

_OF_A_CALL: tuple[Reducer, ...] = (
    *(fewer_faults, fewer_segments, alike_segments, simpler_segments, simpler_total, simpler_faults),
    *(joined_segments, swapped_segments),
)

REDUCERS: tuple[Reducer, ...] = (
    *(_fewer_earlier, _fewer_concurrent, _fewer_steps, fewer_faults, fewer_segments, without_unused),
    *(alike_segments, merged_devices, blocks_of_devices, simpler_segments, simpler_total, _simpler_steps),
    *(pages_of_this_machine, defaults, areas_as_regions, lower_indexes, simpler_areas, smaller_blocks),
    *(simpler_faults, numbers_lowered_together),
    *(blocks_cut_at_the_start, joined_segments, evened_segments),
    *(_simpler_earlier, _simpler_concurrent, swapped_segments, swapped_blocks),
)
"""From those that take most away to those that only tidy up. A new field of a case needs none: `defaults` resets it."""
