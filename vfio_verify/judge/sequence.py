"""The judge of sequences: each call by the clauses of a call, and every mapping that lives after each step.

What a call does wrong by itself is a matter of its own clauses, whenever it is made. REPEATABLE is violated by what
needs the other steps: an earlier mapping that changes, or a call that conforms alone and not here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from vfio_verify.judge import Violation, judge
from vfio_verify.judge.facts import Finding
from vfio_verify.values.case import PAGE, Call, Case, Change, Drop, End, Fork, Policy
from vfio_verify.values.observation import UNREADABLE, MappingSeen, Observation, Run, StepSeen
from vfio_verify.values.space import LiveMapping, Space, actions_of, alone
from vfio_verify.values.words import access, memory_name, place, stamp_name

_HARMLESS = frozenset({"ERROR_SET", "NO_LEAK", "NO_WINDOW"})
"""Clauses whose violation says nothing about a mapping's pages."""


class Blamed(NamedTuple):
    """A violation, and the step in which it was seen. `call`: the call's own, as a case. `damage`: to a mapping."""

    step: int
    violation: Violation
    call: Case | None
    damage: bool


class SequenceVerdict(NamedTuple):
    """Which clauses were exercised, and what was seen to violate one, in the order of the steps."""

    checked: frozenset[str]
    blamed: tuple[Blamed, ...]


def touches_pages(violations: tuple[Violation, ...]) -> bool:
    """Whether one of these violations is about pages. Then other mappings may have suffered from it."""
    return any(clause not in _HARMLESS for violation in violations for clause in violation.clauses)


def judge_sequence(case: Case, policy: Policy, seen: Observation, *, has_errp: bool = True) -> SequenceVerdict:
    """Hold each step against the model. After the first damage, what follows is not judged."""
    space = Space(case, policy)
    checked: set[str] = set()
    blamed: list[Blamed] = []
    before: StepSeen | None = None
    last_call = seen
    for number, (action, step) in enumerate(zip(actions_of(case), seen.steps, strict=False)):
        own = alone(case, action) if isinstance(action, Call) else None
        answer = step.call
        made = ended = None
        if answer is not None:
            last_call = answer = replace(answer, harness_changes=0 if number else seen.harness_changes)
            made_for = action if isinstance(action, Call) else Call(case.iovec, case.total_size)
            verdict = judge(alone(case, made_for), space.expectation(made_for), answer, has_errp=has_errp)
            checked |= verdict.checked
            blamed += [Blamed(number, replace(v, case=case), own, damage=False) for v in verdict.violations]
            if answer.death is not None:
                break
            made = space.map(made_for, mapped=answer.mapped)
            if made is not None and touches_pages(verdict.violations):
                space.end(made.call)
                made = None
        elif isinstance(action, End):
            ended = space.end(action.mapping)
        if number and (space.live or ended):
            checked.add("REPEATABLE")
        finding = next(_damage(space, before, step, made, ended), None)
        if finding is not None:
            where = f"after step {number} ({step_text(case, number)}): " if number else ""
            violation = Violation(
                "REPEATABLE", finding.cause, where + finding.summary, case, last_call, finding.expected, finding.seen
            )
            blamed.append(Blamed(number, violation, own, damage=True))
            break
        before = step
    return SequenceVerdict(frozenset(checked), tuple(blamed))


def step_text(case: Case, step: int) -> str:
    """A step in few words; step 0 is the case's own call."""
    actions = actions_of(case)
    match actions[step]:
        case End(mapping):
            return f"end of mapping {mapping}"
        case Change(block, offset):
            return f"the device changes {place(offset, f'block {block}')}"
        case Drop(block):
            return f"block {block} goes"
        case Fork():
            return "fork"
    return f"call {sum(isinstance(action, Call) for action in actions[:step])}"


def _damage(
    space: Space, before: StepSeen | None, step: StepSeen, made: LiveMapping | None, ended: LiveMapping | None
) -> Iterator[Finding]:
    """What is wrong with the mappings after a step."""
    seen = {mapping.call: mapping for mapping in step.mappings}
    for mapping in space.live.values():
        yield from _changed(mapping, seen.get(mapping.call, MappingSeen(mapping.call, 0, ())), space.case)
    if made is not None:
        yield from _overlapping(made, space, seen)
    if step.left:
        yield Finding("the mapping that was ended is not gone", "nothing mapped there", "pages left", "not gone")
    if ended is not None and before is not None:
        gone = before.pages - step.pages
        if gone * PAGE != ended.length:
            summary = "the end of the mapping frees another number of pages than it had"
            yield Finding(summary, f"{-ended.length // PAGE:+} pages", f"{-gone:+} pages", "pages")
    if step.child is not None and step.child in space.live:
        expected = f"the same pages and contents of mapping {step.child} in the child, or none of them"
        yield Finding("a forked child sees a mapping otherwise", expected, "other pages or contents", "fork")


def _changed(mapping: LiveMapping, seen: MappingSeen, case: Case) -> Iterator[Finding]:
    """A mapping against what it must be, which it was when its call returned."""
    name = f"mapping {mapping.call}"
    where = f"M{mapping.call}"
    if seen.runs != mapping.runs and (other := _first_other(mapping.runs, seen.runs)):
        position, must, got = other
        at = f"at {place(position, where)}"
        if got is None:
            yield Finding(f"part of {name} is gone", f"{at}: {_shown(must, position, case)}", f"{at}: nothing", "gone")
        else:
            summary = f"part of {name} shows other memory, or is mapped otherwise"
            expected, shown = (f"{at}: {_shown(run, position, case)}" for run in (must, got))
            yield Finding(summary, expected, shown, "replaced")
    for d in seen.differences:
        if d.kind != UNREADABLE:
            at = f"mapping {mapping.call}, segment {d.segment}, byte {d.offset:#x}"
            yield Finding(
                f"{name} does not show the device's memory",
                f"{at}: {stamp_name(d.expected, case)}",
                f"{at}: {stamp_name(d.seen, case)}",
                "contents",
            )


def _first_other(must: tuple[Run, ...], got: tuple[Run, ...]) -> tuple[int, Run | None, Run | None] | None:
    """The first position where two lists of runs differ, and the run that each has there. None where they only cut
    the same pages up otherwise."""
    edges = sorted({edge for run in (*must, *got) for edge in (run.start, run.end)})
    for position in edges:
        a, b = _at(must, position), _at(got, position)
        if _backing(a, position) != _backing(b, position):
            return position, a, b
    return None


def _at(runs: tuple[Run, ...], position: int) -> Run | None:
    return next((run for run in runs if run.start <= position < run.end), None)


def _backing(run: Run | None, position: int) -> tuple[int, int, int] | None:
    return None if run is None else (run.flags, run.memory, run.offset + position - run.start)


def _shown(run: Run | None, position: int, case: Case) -> str:
    if run is None:
        return "nothing"
    return f"{memory_name(run.memory, run.offset + position - run.start, case)}, {access(run.flags)}"


def _overlapping(made: LiveMapping, space: Space, seen: dict[int, MappingSeen]) -> Iterator[Finding]:
    start = seen[made.call].address
    for other in space.live.values():
        if other.call == made.call:
            continue
        there = seen[other.call].address
        if start < there + other.length and there < start + made.length:
            summary = f"mappings {other.call} and {made.call} share pages"
            by = place(start - there, f"M{other.call}")
            yield Finding(summary, "mappings apart from each other", f"mapping {made.call} at {by}", "overlap")
