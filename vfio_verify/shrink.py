"""Making a violating case small, and sure: it must violate its clause again, in a fresh process.

Cases are shrunk as values, not as Hypothesis's choices: each clause gets its own smallest case, a foreign case can
be shrunk too, and a candidate costs one message to the worker. Greedy and deterministic: candidates are tried from
the boldest to the mildest, and one that still violates the clause at a lower cost takes the case's place.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
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
    Policy,
    RamBlock,
    Region,
    Segment,
    check,
)
from vfio_verify.errors import InputError
from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.sequence import judge_sequence, step_text, touches_pages
from vfio_verify.judge.threads import judge_at_once
from vfio_verify.model import expect
from vfio_verify.observation import Observation
from vfio_verify.space import actions_of, alone, with_actions
from vfio_verify.subject import Subject
from vfio_verify.worker import Worker

_MAX_TRIES = 1500
_MAX_SLOW_TRIES = 8
"""Candidates tried for a subject that hangs, each of which takes seconds."""
_MAX_TRIES_AT_ONCE = 60
_CONFIRMATIONS = 3
_FEW_STEPS = 9
"""Of which every pair is tried: most faults of a sequence need two."""
FRESH_PROCESSES, FRESH_NEEDED = 20, 3
"""What several calls at once show must come again in so many of at most so many processes: specs/clauses.toml,
REPEATABLE."""


class Confirmation(Struct, frozen=True):
    """The smallest case found, or None where the violation did not come again."""

    violation: Violation | None
    tries: int


def settle(
    worker: Worker, subject: Subject, policy: Policy, violation: Violation, history: tuple[Case, ...]
) -> Confirmation:
    """Confirm a violation and shrink it. If it needs the calls that were made before it, so does the result, and
    the clause is then REPEATABLE: what a call does must not depend on earlier ones."""
    trial = _Trial(worker, subject, policy, violation)
    if violation.case.alongside:
        return _settle_at_once(trial, violation)
    slow = violation.observation.death is not None and violation.observation.death.is_slow
    trial.left = _MAX_SLOW_TRIES if slow else _MAX_TRIES
    # What an earlier candidate left in the process is no part of a sequence.
    trial.fresh = bool(violation.case.sequence)
    for _ in range(1 if slow else _CONFIRMATIONS):
        if trial.accepts(violation.case, fresh=True):
            return Confirmation(_minimal(trial), trial.tries)
    with_history = replace(violation.case, earlier=history)
    if history and trial.accepts(with_history, fresh=True):
        trial.fresh = True
        return Confirmation(dependent(_minimal(trial)), trial.tries)
    return Confirmation(None, trial.tries)


def comes_again(worker: Worker, subject: Subject, policy: Policy, violation: Violation) -> Violation | None:
    """What calls at once have shown, if it comes again often enough to be believed."""
    trial = _Trial(worker, subject, policy, violation)
    hangs = violation.observation.death is not None and violation.observation.death.how == "hang"
    return trial.last if _comes_again(trial, violation.case, 1 if hangs else FRESH_NEEDED) else None


def seen_at_once(
    worker: Worker, subject: Subject, policy: Policy, case: Case
) -> tuple[Verdict, list[tuple[Violation, Violation | None]]]:
    """Calls at once, in fresh processes until one of them shows something. Each violation comes with itself as it came
    again, or None if it is not to be believed."""
    for _ in range(FRESH_PROCESSES):
        worker.renew()
        _, verdict = run_and_judge(worker, subject, policy, case)
        if verdict.violations:
            break
    return verdict, [(one, comes_again(worker, subject, policy, one)) for one in verdict.violations]


def _settle_at_once(trial: _Trial, violation: Violation) -> Confirmation:
    """What depends on who goes on when must come again often, before it is made small and after."""
    slow = violation.observation.death is not None and violation.observation.death.how == "hang"
    trial.left = 2 if slow else _MAX_TRIES_AT_ONCE
    if not _comes_again(trial, violation.case, 1 if slow else FRESH_NEEDED):
        return Confirmation(None, trial.tries)
    original = trial.last
    smallest = _minimal(trial)
    if not slow and not _comes_again(trial, smallest.case, FRESH_NEEDED):
        return Confirmation(original, trial.tries)
    return Confirmation(trial.last, trial.tries)


def _comes_again(trial: _Trial, case: Case, needed: int) -> bool:
    for left in range(FRESH_PROCESSES, 0, -1):
        needed -= trial.accepts(case, fresh=True)
        if not needed or needed >= left:
            break
    return not needed


def dependent(violation: Violation) -> Violation:
    """A violation that needs earlier calls is one of REPEATABLE, unless it ends the process."""
    if not violation.case.earlier or violation.clause == "SURVIVES":
        return violation
    n = len(violation.case.earlier)
    summary = f"after {n} earlier call{'s' * (n != 1)}: {violation.summary} ({violation.clause})"
    if violation.clause == "REPEATABLE":
        return replace(violation, summary=summary)
    return replace(violation, clause="REPEATABLE", cause=_cause(violation), summary=summary)


def _cause(violation: Violation) -> str:
    """Of REPEATABLE, where a call violates another clause only after others."""
    return f"{violation.clause}: {violation.cause}"


def run_and_judge(worker: Worker, subject: Subject, policy: Policy, case: Case) -> tuple[Observation, Verdict]:
    """Run one case, its fault plan, earlier calls and those alongside included."""
    (seen,) = worker.run(case)
    if case.sequence:
        return seen, judge_steps(worker, subject, policy, case, seen)
    if case.alongside:
        return seen, judge_at_once(case, policy, seen, has_errp=subject.has_errp)
    return seen, judge(case, expect(case, policy), seen, has_errp=subject.has_errp)


def judge_steps(worker: Worker, subject: Subject, policy: Policy, case: Case, seen: Observation) -> Verdict:
    """Judge a sequence that was run. A later call that is to blame is made again alone, in a fresh process: what it
    does wrong there too is no matter of the sequence, and what it does wrong only here is REPEATABLE's."""
    verdict = judge_sequence(case, policy, seen, has_errp=subject.has_errp)
    violations: list[Violation] = []
    for step, group in itertools.groupby(verdict.blamed, lambda one: one.step):
        blamed = list(group)
        call = blamed[0].call
        if not step or call is None:
            needed = call or replace(case, sequence=case.sequence[:step])
            violations += [replace(b.violation, case=case if b.damage else needed) for b in blamed]
            continue
        worker.renew()
        _, by_itself = run_and_judge(worker, subject, policy, call)
        violations += by_itself.violations
        shown = {(v.clause, v.cause) for v in by_itself.violations}
        left = [b for b in blamed if b.damage and not touches_pages(by_itself.violations)]
        left += [b for b in blamed if not b.damage and (b.violation.clause, b.violation.cause) not in shown]
        if left:  # the first, of which the others are consequences
            needed = replace(case, sequence=case.sequence[:step])
            found = replace(left[0].violation, case=needed)
            violations.append(of_sequence(found, f"step {step} ({step_text(case, step)})"))
            break
    return Verdict(verdict.checked, tuple(violations))


def of_sequence(violation: Violation, step: str) -> Violation:
    """A call's violation that it does not show alone is one of REPEATABLE, unless it ends the process."""
    if violation.clause == "REPEATABLE":
        return violation
    summary = f"in {step}, and not in the same call alone: {violation.summary}"
    if violation.clause == "SURVIVES":
        return replace(violation, summary=summary)
    summary += f" ({violation.clause})"
    return replace(violation, clause="REPEATABLE", cause=_cause(violation), summary=summary)


class _Trial:
    """Asks of one candidate after another whether it violates the clause."""

    def __init__(self, worker: Worker, subject: Subject, policy: Policy, wanted: Violation) -> None:
        self._worker, self._subject, self._policy = worker, subject, policy
        self._wanted = (wanted.clause, wanted.cause)
        self._known: set[Case] = set()
        self.fresh = False
        self.tries, self.left = 0, _MAX_TRIES
        self.last: Violation | None = None

    def accepts(self, case: Case, *, fresh: bool = False) -> bool:
        """Run it; `last` is then the violation. Asked again of the same candidate, the answer is no."""
        if not fresh and (case in self._known or self.left <= 0):
            return False
        self._known.add(case)
        self.tries += 1
        self.left -= 1
        if fresh or self.fresh:
            self._worker.renew()
        _, verdict = run_and_judge(self._worker, self._subject, self._policy, case)
        for violation in verdict.violations:
            if (violation.clause, violation.cause) == self._wanted:
                self.last = violation
                # Earlier candidates may have left their mark on the process.
                return fresh or self.fresh or self.accepts(case, fresh=True)
        return False

    def adapt(self, case: Case) -> Case:
        return self._subject.adapt(case)


def _minimal(trial: _Trial) -> Violation:
    """Shrink what the trial has just accepted."""
    best = trial.last
    assert best is not None
    improved = True
    while improved:
        improved = False
        for reduce in _REDUCERS:
            again = True
            while again:
                again = False
                for candidate in map(trial.adapt, reduce(best.case)):
                    if _is_smaller(candidate, best.case) and trial.accepts(candidate):
                        assert trial.last is not None
                        best, improved, again = trial.last, True, True
                        break
    return best


def _is_smaller(candidate: Case, than: Case) -> bool:
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
    oddities = sum((d.mmap_rule != "region") + d.region_fds for d in case.devices) + (case.errp != "object")
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
        for reduce in _REDUCERS:
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
        for simpler in (replace(device, region_fds=False), replace(device, mmap_rule="region")):
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


_Reducer = Callable[[Case], Iterator[Case]]
_REDUCERS: tuple[_Reducer, ...] = (
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
