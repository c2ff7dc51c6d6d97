"""Concurrent calls: each is held against its own expectation, and must end as it does when made alone.

What also goes wrong in the control, where the same calls are made one after the other, has nothing to do with threads,
and is found without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from msgspec.structs import replace

from vfio_verify.judge import Verdict, Violation, judge
from vfio_verify.judge.facts import Finding
from vfio_verify.values.case import Call, Case, Policy
from vfio_verify.values.cause import concurrent
from vfio_verify.values.model import expect
from vfio_verify.values.observation import TOOK_AWAY, Observation, Taken, Threads
from vfio_verify.values.space import alone
from vfio_verify.values.words import death_text, place

_CONTROLS = 2
"""Rounds in which the calls are made one after the other; pyx/world/threads/threads.c has the same."""
_TELLING = (
    *("CONTENTS", "CONTIGUOUS", "ACCEPTS_VALID", "READ_ONLY", "SAME_BLOCK", "SIZE_AGREES", "WITHIN_BLOCK", "ALIGNED"),
    *("NOT_EMPTY", "UNMAP_ON_ERROR", "NO_LEAK", "ERROR_SET", "SURVIVES", "NO_WINDOW", "FAULT_REPORTED", "CONFINED"),
)
"""A disturbance shows in many clauses; the first of these is told."""

CHECKED = frozenset({"REPEATABLE", "NO_WINDOW", "SURVIVES"})


def each_call(case: Case) -> tuple[Case, ...]:
    """A case for each thread's call, as if it was made alone."""
    own = Call(case.iovec, case.total_size, case.fault_plan)
    return tuple(alone(case, call) for call in (own, *case.concurrent))


def judge_concurrent(case: Case, policy: Policy, seen: Observation, *, has_errp: bool = True) -> Verdict:
    """Hold the observation of a case with concurrent calls against the spec."""
    threads = seen.threads
    assert threads is not None  # the worker fills it in for such a case

    def violation(clause: str, finding: Finding) -> Violation:
        cause = concurrent(finding.cause)
        return Violation(clause, cause, finding.summary, case, seen, finding.expected, finding.seen)

    n = 1 + len(case.concurrent)
    if seen.death is not None:
        if threads.rounds <= _CONTROLS:
            return Verdict(frozenset(), ())  # found with one thread
        by = "" if threads.dead is None else f", in thread {threads.dead + 1}"
        text = death_text(seen.death)
        expected = "each call returns, as it does when the calls are made one after the other"
        how = f"{seen.death.how} {seen.death.signal}"
        finding = Finding(f"with {n} concurrent calls: {text}{by}", expected, text, how)
        return Verdict(frozenset({"SURVIVES"}), (violation("SURVIVES", finding),))
    if threads.rounds <= _CONTROLS:
        return Verdict(frozenset(), ())
    # The hole that a driver's refusal leaves may have become another call's reservation, and goes with the first.
    torn = any(event.flags & TOOK_AWAY for _, _, event in threads.steps)
    # What another thread has taken from a call disturbs it; that is no fault of its own.
    violations = [] if torn else [violation("NO_WINDOW", finding) for finding in _window(threads)]
    if threads.clobbered and not torn:
        expected, text = "memory of other threads stays as it is", f"{threads.clobbered} pages overwritten"
        violations.append(violation("CONFINED", Finding("a call overwrites another thread's memory", expected, text)))
    if threads.round is not None and not violations:
        disturbed = list(_disturbed(case, policy, threads, has_errp))
        if disturbed:
            violations.append(violation("REPEATABLE", replace(disturbed[0], cause="disturbed")))
        violations += [violation("CONFINED", found) for found in disturbed if found.cause == "CONFINED"][:1]
    return Verdict(CHECKED, tuple(violations))


def _window(threads: Threads) -> Iterator[Finding]:
    expected = "what a call reserves stays reserved until it returns"
    if threads.hole is not None:
        at = _place(threads.hole)
        yield Finding("another thread sees a hole in what a call has reserved", expected, f"nothing at {at}", "window")
    elif threads.grab is not None:
        summary = "another thread that maps memory gets part of what a call has reserved"
        yield Finding(summary, expected, f"{threads.grab.length:#x} bytes at {_place(threads.grab)}", "window")


def _place(taken: Taken) -> str:
    reservation = f"A{taken.thread + 1}"
    return f"{place(taken.at - taken.start, reservation)}, {reservation} being what thread {taken.thread + 1} reserved"


def _disturbed(case: Case, policy: Policy, threads: Threads, has_errp: bool) -> Iterator[Finding]:
    """What is wrong with a call of the last round, and with none of the control; the most telling first."""
    calls = each_call(case)
    expected = [expect(call, policy) for call in calls]

    def judged(observations: tuple[Observation, ...]) -> Iterator[tuple[int, Violation]]:
        for number, seen in enumerate(observations):
            verdict = judge(calls[number], expected[number], seen, has_errp=has_errp)
            yield from ((number, found) for found in verdict.violations)

    if any(seen.flags_union & TOOK_AWAY for seen in threads.control):
        return  # the kernel may give another call the hole that a driver's refusal leaves
    known = {clause for _, found in judged(threads.control) for clause in found.clauses}
    if "NO_WINDOW" in known:
        return  # who frees what it uses is disturbed by that
    start = "calls from several threads at once disturb each other"
    for a, b in combinations(range(len(calls)), 2):
        if _meet(threads.calls[a], calls[a], threads.calls[b], calls[b]):
            if not _meet(threads.control[a], calls[a], threads.control[b], calls[b]):
                text = f"threads {a + 1} and {b + 1} are given the same addresses"
                yield Finding(f"{start}: {text}", "a mapping of its own for each call", text)
            break
    found = [(number, violation) for number, violation in judged(threads.calls) if violation.clause not in known]
    order = {clause: i for i, clause in enumerate(_TELLING)}
    for number, violation in sorted(found, key=lambda pair: (order.get(pair[1].clause, 99), pair[0])):
        alone = f"{violation.expected}, as when the calls are made one after the other"
        where = f"thread {number + 1}: {violation.summary} ({violation.clause})"
        yield Finding(f"{start}: {where}", alone, violation.seen, violation.clause)


def _meet(a: Observation, case_a: Case, b: Observation, case_b: Case) -> bool:
    ends = (a.address + case_a.total_size, b.address + case_b.total_size)
    return a.mapped and b.mapped and a.address < ends[1] and b.address < ends[0]
