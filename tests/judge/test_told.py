"""What is told of each violation, to the word, by observations made by hand.

told.txt, beside this file, has a section for each: the clause and the cause, the summary, what was expected and what
was seen, and what follows from it. `python tests/judge/test_told.py` writes it anew; read the difference.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterable
from pathlib import Path

from made_runs import (
    CONCURRENT,
    EITHER,
    FAILED,
    FAR,
    GOOD,
    HOST,
    LARGE,
    RESERVING,
    RUNS,
    SEQUENCE,
    TWO,
    VALID,
    WHOLE,
    A,
    B,
    at_once,
    call,
    dead,
    failed,
    failure,
    mapped,
    munmap,
    overlay,
    page,
    reserve,
    runs,
    step,
    steps,
    success,
    told,
)
from msgspec.structs import replace

from vfio_verify.judge import Violation
from vfio_verify.judge.concurrent import judge_concurrent
from vfio_verify.judge.sequence import judge_sequence
from vfio_verify.values.case import PAGE, Area, Case, Device, KernelFault, RamBlock, Region, Segment
from vfio_verify.values.observation import (
    ANONYMOUS,
    BY_RULE,
    ERROR_SET_TWICE,
    EXEC,
    FAULTED,
    NOWHERE,
    OTHER,
    OUTSIDE,
    OWNED,
    RAM,
    READ,
    REFUSED,
    SHARED,
    STILL_READABLE,
    TOOK_AWAY,
    UNPLANNED,
    WRITE,
    Death,
    Difference,
    MappingSeen,
    Observation,
    Run,
    StepSeen,
    Taken,
)

FDS = (5, 6, 7, 8, 20, 21, 22, 23, 24, 25, 26, 27, 9)
"""Of four devices, of eight files of regions, and of plain RAM."""
STRAY = (Run(0, 3 * PAGE, SHARED, OTHER, 0),)
RESERVED = [reserve(), failed(overlay(0, 1, 0))]
SPARSE = Case(
    (Device((Region(2, 64 * PAGE, (Area(8 * PAGE, 16 * PAGE), Area(40 * PAGE, 16 * PAGE))), Region(3, PAGE))),),
    (RamBlock(0, 2, 0), RamBlock(0, 2, 1)),
    (Segment(1, 0, PAGE), Segment(1, 2 * PAGE, PAGE)),
    2 * PAGE,
)
PLACE = (2 << 40) + 40 * PAGE


def second(**fields: object) -> Observation:
    return success(second=replace(WHOLE, **fields))


def refused(source: int, *, at: int = A, flags: int = mmap.MAP_SHARED | 0x10, fd: int = 5) -> Observation:
    """An overlay of SPARSE that the device's rule refuses, and a failure."""
    event = call("mmap", at, PAGE, 1, flags, fd, source, result=FAILED, error=errno.EINVAL, flags=OWNED | BY_RULE)
    return failure([reserve(2 * PAGE), event, munmap(0, 2)], device_fds=FDS)


def worded(violations: Iterable[Violation]) -> str:
    """Everything that is told of some violations."""
    lines = []
    for v in violations:
        where = "" if v.where == NOWHERE else f" @{v.where:x}"
        byte = "" if v.position is None else f" byte {v.position:#x}"
        lines += [
            f"{v.clause}: {v.cause}{where}{byte}",
            f"    {v.summary}",
            f"    must: {v.expected}",
            f"    is: {v.seen}",
        ]
        lines += [f"    so {one.clause}: {one.cause}: {one.summary}" for one in v.consequences]
    return "\n".join(lines) + "\n"


def by_step(**changed: StepSeen) -> list[Violation]:
    """What is told of a sequence."""
    return [one.violation for one in judge_sequence(SEQUENCE, "same-block", steps(**changed)).blamed]


def by_calls(death: Death | None = None, **fields: object) -> tuple[Violation, ...]:
    """What is told of concurrent calls."""
    return judge_concurrent(CONCURRENT, "same-block", at_once(death, **fields)).violations


FIRST, SECOND = MappingSeen(0, A, RUNS), MappingSeen(1, B, RUNS)
CHANGED = Difference(1, 1, 16, 1 << 60 | 4, 1 << 60 | 8)
TAKEN = Taken(thread=1, start=FAR, end=FAR + 3 * PAGE, at=FAR + PAGE, length=PAGE, order=4)

RUN: dict[str, tuple[Observation, Case]] = {
    "hole": (success(runs=runs((1, None))), VALID),
    "last hole": (success(runs=RUNS[:1], pages_after=1001), VALID),
    "first segment gone": (success(runs=runs((0, None))), VALID),
    "placeholder": (success(runs=runs((2, page(2, SHARED, OTHER)))), VALID),
    "anonymous": (success(runs=runs((0, page(0, READ | SHARED, ANONYMOUS)))), VALID),
    "address": (success(address=A + 8), VALID),
    "stray": (success(strays=(Run(3 * PAGE, 5 * PAGE, SHARED, OTHER, 0),), pages_after=1005), VALID),
    "pages more": (success(pages_after=1005), VALID),
    "pages fewer": (success(pages_after=1001), VALID),
    "other region": (success(runs=runs((1, page(1, offset=(2 << 40) + 5 * PAGE)))), VALID),
    "other device": (
        success(runs=runs((1, page(1, memory=1, offset=(9 << 40) + 5 * PAGE)))),
        replace(VALID, devices=(*VALID.devices, Device((Region(9, 16 * PAGE),)))),
    ),
    "other segment, its second page": (success(runs=runs((2, page(2, offset=PAGE)))), VALID),
    "order": (
        success(runs=(page(0, offset=2 * PAGE), page(1), page(2, offset=3 * PAGE))),
        replace(VALID, iovec=(Segment(0, 0, PAGE), Segment(0, 2 * PAGE, PAGE), Segment(0, 3 * PAGE, PAGE))),
    ),
    "other memory": (success(runs=runs((1, page(1, memory=RAM, offset=5 * PAGE)))), VALID),
    "private": (success(runs=runs((2, page(2, READ, 0, 3 * PAGE)))), VALID),
    "words": (success(differences=(Difference(1, 1, 8, 1 << 60 | 2 * PAGE + 8, 0x41),)), VALID),
    "device unseen": (success(differences=(Difference(2, 0, 0, 1 << 60 | 1, 1 << 60),)), VALID),
    "guest unseen": (success(differences=(Difference(3, 1, 16, 1 << 60 | 16, 1 << 60),)), VALID),
    "still there": (
        success(differences=(Difference(STILL_READABLE, 1, PAGE, 1 << 60, 0x41),)),
        replace(VALID, kernel_fault=KernelFault("truncated")),
    ),
    "executable": (success(runs=runs((1, page(1, READ | EXEC | SHARED, 0, 2 * PAGE)))), VALID),
    "writable": (success(runs=runs((1, page(1, READ | WRITE | SHARED, 0, 2 * PAGE)))), VALID),
    "second fails": (second(mapped=False), VALID),
    "second unlike": (second(like_first=False), VALID),
    "second damages": (second(first_differences=3), VALID),
    "second and descriptors": (second(left_open=True), VALID),
    "refused": (failure(message=b"too many"), VALID),
    "refused, one segment": (failure(message=b""), replace(VALID, iovec=VALID.iovec[:1], total_size=PAGE)),
    "refused, sealed": (failure(message=b"cannot: 3"), replace(VALID, kernel_fault=KernelFault("sealed"))),
    "refused: area": (refused(PLACE - 40 * PAGE), SPARSE),
    "refused: or": (refused(PLACE - (2 << 40)), SPARSE),
    "refused: private": (refused(PLACE, flags=mmap.MAP_PRIVATE | 0x10), SPARSE),
    "refused: RAM": (refused(PLACE, fd=9), SPARSE),
    "refused: other device": (refused(PLACE, fd=6), SPARSE),
    "refused: right": (refused(PLACE), SPARSE),
    "refused: outside": (refused(PLACE, at=A + 2 * PAGE), SPARSE),
    "refused: no descriptor": (refused(PLACE, fd=77), SPARSE),
    "refused: no overlay": (refused(PLACE - 40 * PAGE, flags=mmap.MAP_SHARED), SPARSE),
    "mapped though": (success(second=None), replace(VALID, total_size=4 * PAGE)),
    "mapped though empty": (success(second=None), replace(VALID, iovec=(*VALID.iovec, Segment(0, 0, 0)))),
    "step failed": (
        success([reserve(), failed(overlay(0, 1, 0))._replace(caller=0x123), GOOD[2]], runs=runs((0, None))),
        VALID,
    ),
    "late step failed": (
        success([failed(reserve(), errno.EAGAIN, flags=FAULTED | TOOK_AWAY)], runs=runs((0, None)), second=None),
        VALID,
    ),
    "look-up failed": (
        success([call("find_block", HOST, result=FAILED, error=errno.EINVAL, flags=FAULTED), *GOOD]),
        VALID,
    ),
    "set twice": (dead("abort", signal=6, note="first, then second", code=ERROR_SET_TWICE), VALID),
    "assertion": (dead("abort", signal=6, note="a.c:12: f: assertion `x' failed", code="assertion"), VALID),
    "success sets": (success(error_left=True, message=b"no\xff"), VALID),
    "none: sum": (failure(error_left=False, message=b""), EITHER),
    "none: clauses": (
        failure(error_left=False, message=b""),
        replace(VALID, iovec=(Segment(0, 8, PAGE), Segment(None, 0, PAGE)), total_size=2 * PAGE),
    ),
    "none: step": (failure(RESERVED, error_left=False, message=b""), VALID),
    "empty": (failure([failed(reserve())], message=b" \n"), VALID),
    "newline": (failure([failed(reserve())], message=b"\nno\n"), VALID),
    "errno": (failure([failed(reserve())], message=b"no: Unknown error -22"), VALID),
    "bad free": (failure([failed(reserve())], bad_frees=1), VALID),
    "crash": (dead(events=[failed(reserve())], signal=11, note="at NULL + 0x8"), VALID),
    "crash, untold step": (dead(events=[reserve()], signal=11), VALID),
    "crash at start": (dead(signal=7), VALID),
    "crash at a place": (dead(signal=11, frames=(0x12,)), VALID),
    "hang": (dead("hang"), VALID),
    "damage": (dead("damage", note="its stack"), VALID),
    "exit": (dead("exit", status=3), VALID),
    "kept": (failure(RESERVED, strays=STRAY, pages_after=1003), VALID),
    "kept, untold": (failure(RESERVED, strays=STRAY, pages_after=1003, message=b""), VALID),
    "in part": (failure([*RESERVED, munmap(0, 1)], strays=(page(1),), pages_after=1001), VALID),
    "a failed munmap": (
        failure([*RESERVED, munmap(0, 1, flags=OWNED | FAULTED, error=errno.ENOMEM)], strays=STRAY, pages_after=1003),
        VALID,
    ),
    "two strays": (
        failure([*RESERVED, munmap(1, 1, flags=OWNED | FAULTED, error=errno.ENOMEM)], strays=STRAY, pages_after=1003),
        VALID,
    ),
    "count": (failure(RESERVED, pages_after=998), VALID),
    "charged": (
        failure([call("mmap", 0, LARGE.total_size, 0, RESERVING, -1, result=FAILED, error=12, flags=UNPLANNED)]),
        LARGE,
    ),
    "past its end": (success([*GOOD, munmap(2, 2, flags=OUTSIDE | REFUSED)]), VALID),
    "right behind": (success([*GOOD, munmap(3, 1, flags=OUTSIDE | REFUSED)]), VALID),
    "before it": (success([*GOOD, munmap(-1, 2, flags=OUTSIDE | REFUSED)]), VALID),
    "elsewhere": (success([*GOOD, call("mprotect", HOST, PAGE, 1, flags=OUTSIDE | REFUSED)]), VALID),
    "unmapped before": (failure([*RESERVED, munmap(), munmap(0, 1, flags=OUTSIDE | REFUSED)]), VALID),
    "two kinds astray": (
        success([*GOOD, munmap(3, 1, flags=OUTSIDE | REFUSED), munmap(-5, 1, flags=OUTSIDE | REFUSED)]),
        VALID,
    ),
    "one mapping changed": (success(harness_changes=1), VALID),
    "two mappings changed": (success(harness_changes=2), VALID),
    "maps again": (success([reserve(), munmap(), *GOOD[1:]]), VALID),
    "frees and returns": (success([*GOOD, munmap(1, 1)], runs=runs((1, None)), pages_after=1002), VALID),
    "one descriptor": (success(fds_left=1), VALID),
    "two descriptors": (success(fds_left=2), VALID),
    "gone": (success(fds_gone=1), VALID),
    "one block": (success(heap_live=1, heap_live_bytes=16), VALID),
    "two blocks": (success(heap_live=2, heap_live_bytes=48), VALID),
    "cache": (success(cached_frees=1), VALID),
    "references kept": (success(references_kept=2), VALID),
    "reference kept": (success(references_kept=1), VALID),
    "reference dropped": (success(references_dropped=1), VALID),
    "read lock": (success(read_locks=1), VALID),
    "left behind": (success(left=7), VALID),
    "closed": (success([*GOOD, call("close", 5, flags=OUTSIDE | REFUSED)], device_fds=FDS), VALID),
    "closed by dup2": (success([*GOOD, call("dup", 9, 5, flags=OUTSIDE | REFUSED, result=5)], device_fds=FDS), VALID),
    "closed twice": (
        success([*GOOD, call("close", 30, result=FAILED, error=errno.EBADF, flags=OUTSIDE | UNPLANNED)]),
        VALID,
    ),
}


def several() -> dict[str, Iterable[Violation]]:
    return {
        "sequence: gone": by_step(s4=step(MappingSeen(0, A, RUNS[:1]), pages=1003)),
        "sequence: gone at once": by_step(s1=step(SECOND, pages=1003, call=success(GOOD, second=None))),
        "sequence: replaced": by_step(s4=step(MappingSeen(0, A, (RUNS[0], RUNS[1]._replace(offset=0))), pages=1003)),
        "sequence: part replaced": by_step(s2=step(FIRST, MappingSeen(1, B, (RUNS[0], page(1), page(2))), pages=1006)),
        "sequence: overlap": by_step(
            s1=step(FIRST, MappingSeen(1, A + PAGE, RUNS), pages=1004, call=success(GOOD, second=None))
        ),
        "sequence: contents": by_step(s2=step(MappingSeen(0, A, RUNS, (CHANGED,)), SECOND, pages=1006)),
        "sequence: not gone": by_step(s3=step(FIRST, pages=1003, left=1)),
        "sequence: pages": by_step(s3=step(FIRST, pages=1005)),
        "sequence: fork": by_step(s4=step(FIRST, pages=1003, child=0)),
        "sequence: the first call": by_step(
            s0=step(MappingSeen(0, A, RUNS[:1]), pages=1003, call=success(second=None))
        ),
        "sequence: a death": by_step(s1=step(FIRST, pages=1003, call=dead())),
        "sequence: a leak": by_step(s1=step(FIRST, SECOND, pages=1006, call=success(second=None, heap_live=1))),
        "concurrent: hole": by_calls(hole=TAKEN),
        "concurrent: grab": by_calls(grab=TAKEN),
        "concurrent: overwritten": by_calls(clobbered=3),
        "concurrent: a death": by_calls(Death("signal", signal=11), dead=1),
        "concurrent: a hang": by_calls(Death("hang")),
        "concurrent: one address": by_calls(round=3, calls=(TWO[0], mapped(A))),
        "concurrent: end to end": by_calls(round=3, calls=(TWO[0], mapped(A + 3 * PAGE))),
        "concurrent: a failure": by_calls(round=3, calls=(TWO[0], failure([reserve(), munmap()], message=b"busy"))),
        "concurrent: astray": by_calls(
            round=3, calls=(success([*GOOD, munmap(3, 1, flags=OUTSIDE | REFUSED)], second=None, heap_live=1), TWO[1])
        ),
        "concurrent: the most telling": by_calls(
            round=3, calls=(replace(TWO[0], fds_left=1), replace(TWO[1], runs=runs((1, page(1))), heap_live=1))
        ),
        "concurrent: no round": by_calls(calls=(TWO[0], mapped(A))),
    }


TOLD = Path(__file__).with_name("told.txt")


def sections() -> dict[str, str]:
    runs = {name: told(*run).violations for name, run in RUN.items()}
    return {name: worded(violations) for name, violations in {**runs, **several()}.items()}


def test_each_violation_is_told_in_these_words() -> None:
    assert "\n".join(f"== {name}\n{text}" for name, text in sections().items()) == TOLD.read_text()


if __name__ == "__main__":
    TOLD.write_text("\n".join(f"== {name}\n{text}" for name, text in sections().items()))
