"""Observations made by hand, as the judge gets them."""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterable

import msgspec

from vfio_verify.generate.layouts import larger_than
from vfio_verify.judge import Verdict, judge
from vfio_verify.values.case import PAGE, Call, Case, Change, Device, End, Fork, RamBlock, Region, Segment
from vfio_verify.values.model import expect
from vfio_verify.values.observation import (
    EVENT,
    FAULTED,
    OUTSIDE,
    OWNED,
    READ,
    SHARED,
    STEPS,
    Death,
    Event,
    MappingSeen,
    Observation,
    Run,
    SecondCall,
    StepSeen,
    Threads,
)
from vfio_verify.values.space import actions_of

A = 0x7F00_0000_0000
FAILED = 2**64 - 1
HOST = 0x2000_0000_0000
NOREPLACE = 0x100000
RESERVING, OVERLAYING = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, mmap.MAP_SHARED | 0x10

VALID = Case(
    (Device((Region(0, 16 * PAGE), Region(2, 16 * PAGE))),),
    (RamBlock(0, 0, 0), RamBlock(0, 2, 0)),
    (Segment(0, 0, PAGE), Segment(0, 2 * PAGE, 2 * PAGE)),
    3 * PAGE,
)
EITHER = msgspec.structs.replace(VALID, iovec=(VALID.iovec[0], Segment(0, 2 * PAGE, PAGE + 8)), total_size=2 * PAGE + 8)


LARGE = larger_than(0)


def call(step: str, *arguments: int, result: int = 0, error: int = 0, flags: int = 0) -> Event:
    asked = [argument % 2**64 for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]]
    return Event(STEPS.index(step), flags, *asked, result, error)


def reserve(length: int = 3 * PAGE, at: int = A) -> Event:
    return call("mmap", 0, length, 0, RESERVING, -1, 0, result=at)


def overlay(page: int, count: int, source: int, **more: int) -> Event:
    at = A + page * PAGE
    return call("mmap", at, count * PAGE, 1, OVERLAYING, 5, source * PAGE, **{"result": at, "flags": OWNED, **more})


def failed(event: Event, error: int = errno.ENOMEM, *, flags: int = FAULTED) -> Event:
    kept = event.flags & (OWNED | OUTSIDE)
    return event._replace(result=FAILED, errno=error, flags=flags | kept)


def munmap(page: int = 0, count: int = 3, *, flags: int = OWNED, error: int = 0) -> Event:
    return call("munmap", A + page * PAGE, count * PAGE, flags=flags, error=error, result=FAILED if error else 0)


GOOD = [reserve(), overlay(0, 1, 0), overlay(1, 2, 2)]
RUNS = (Run(0, PAGE, READ | SHARED, 0, 0), Run(PAGE, 3 * PAGE, READ | SHARED, 0, 2 * PAGE))
WHOLE = SecondCall(mapped=True, like_first=True, differences=0, first_whole=True, first_differences=0)


def seen(events: Iterable[Event] = (), **fields: object) -> Observation:
    """What was seen of a run with this trace. What is not given is as in a process without a fault."""
    events = list(events)
    union = 0
    for event in events:
        union |= event.flags
    usual = {
        "address": A,
        "base": A,
        "error_given": True,
        "pages_before": 1000,
        "pages_after": 1000,
        "block_hosts": (HOST, HOST + 2**20),
        "events": b"".join(EVENT.pack(*event) for event in events),
        "counts": tuple(sum(event.step == step for event in events) for step in range(len(STEPS))),
        "flags_union": union,
    }
    return Observation(**{**usual, **fields})


def success(events: Iterable[Event] = GOOD, **fields: object) -> Observation:
    return seen(events, **{"mapped": True, "runs": RUNS, "pages_after": 1003, "second": WHOLE, **fields})


def failure(events: Iterable[Event] = (), **fields: object) -> Observation:
    return seen(events, **{"mapped": False, "address": 0, "error_left": True, "message": b"no", **fields})


def dead(how: str = "signal", events: Iterable[Event] = (), **fields: object) -> Observation:
    signal = 11 if how == "signal" else 0
    return seen(events, mapped=False, address=0, death=Death(how, **{"signal": signal, **fields}))


def told(what: Observation, case: Case = VALID, *, has_errp: bool = True) -> Verdict:
    return judge(case, expect(case), what, has_errp=has_errp)


def status(clause: str, what: Observation, case: Case = VALID, *, has_errp: bool = True) -> str:
    verdict = told(what, case, has_errp=has_errp)
    violated = any(clause in violation.clauses for violation in verdict.violations)
    assert clause in verdict.checked or not violated
    return "violated" if violated else "holds" if clause in verdict.checked else "not exercised"


def violated(what: Observation, case: Case = VALID) -> set[str]:
    return {clause for violation in told(what, case).violations for clause in violation.clauses}


def causes(what: Observation, clause: str, case: Case = VALID) -> list[str]:
    """In which ways a clause is violated, as a root or as a consequence."""
    return [one.cause for violation in told(what, case).violations for one in violation.whole if one.clause == clause]


def runs(*changes: tuple[int, Run | None]) -> tuple[Run, ...]:
    """RUNS page by page, with some pages replaced or (None) gone."""
    pages = {i: Run(i * PAGE, (i + 1) * PAGE, READ | SHARED, 0, offset * PAGE) for i, offset in enumerate((0, 2, 3))}
    for number, run in changes:
        if run is None:
            del pages[number]
        else:
            pages[number] = run
    return tuple(pages.values())


def page(number: int, flags: int = READ | SHARED, memory: int = 0, offset: int = 0) -> Run:
    return Run(number * PAGE, (number + 1) * PAGE, flags, memory, offset)


# ---- sequences ---------------------------------------------------------------------------------------------------

AGAIN = actions_of(VALID)[0]
SEQUENCE = msgspec.structs.replace(VALID, sequence=(AGAIN, Change(0, 0), End(1), Fork(), AGAIN))
B = A - 8 * PAGE


def step(*mappings: MappingSeen, pages: int, **fields: object) -> StepSeen:
    return StepSeen(mappings=mappings, pages=pages, **fields)


def steps(**changed: StepSeen) -> Observation:
    """What is seen of SEQUENCE where all is well, but for the steps that are given by name: s1, s2..."""
    mapped = success([reserve(), overlay(0, 1, 0), overlay(1, 2, 2)], second=None)
    first, second, third = (MappingSeen(n, at, RUNS) for n, at in enumerate((A, B, B)))
    usual = [
        step(first, pages=1003, call=mapped),
        step(first, second, pages=1006, call=mapped),
        step(first, second, pages=1006),
        step(first, pages=1003),
        step(first, pages=1003),
        step(first, msgspec.structs.replace(third, call=2), pages=1006, call=mapped),
    ]
    return msgspec.structs.replace(mapped, steps=tuple(changed.get(f"s{i}", s) for i, s in enumerate(usual)))


# ---- concurrent calls --------------------------------------------------------------------------------------------

CONCURRENT = msgspec.structs.replace(VALID, concurrent=(Call(VALID.iovec, VALID.total_size),))
FAR = A + (1 << 30)


def mapped(at: int) -> Observation:
    """A call that has mapped the layout at an address."""
    moved = [event._replace(result=event.result - A + at) for event in GOOD]
    moved = [moved[0], *(event._replace(a0=event.a0 - A + at) for event in moved[1:])]
    return success(moved, address=at, base=at, second=None)


TWO = (mapped(A), mapped(FAR))


def at_once(death: Death | None = None, **fields: object) -> Observation:
    usual = {
        "rounds": 20,
        "round": None,
        "policy": 0,
        "dead": None,
        "hole": None,
        "grab": None,
        "clobbered": 0,
        "steps": (),
        "bases": (A, FAR),
        "calls": TWO,
        "control": TWO,
    }
    return Observation(mapped=False, death=death, threads=Threads(**{**usual, **fields}))  # type: ignore[arg-type]
