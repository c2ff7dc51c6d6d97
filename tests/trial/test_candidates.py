"""What is kept of violations as they are seen."""

from __future__ import annotations

from made_reports import violation
from msgspec.structs import replace

from vfio_verify.judge import Violation
from vfio_verify.judge.attribution import key
from vfio_verify.trial.candidates import CandidateTable
from vfio_verify.values.case import PAGE, Call, Case, Device, End, KernelFault, RamBlock, Region, Segment
from vfio_verify.worker.worker import Past

ONE_PAGE = Segment(0, 0, PAGE)
SMALL, LARGE = (Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (ONE_PAGE,) * n, n * PAGE) for n in (1, 5))


def seen(case: Case, cause: str = "") -> Violation:
    return replace(violation(), case=case, cause=cause)


def past(n: int) -> Past:
    return Past([SMALL] * n, n)


def kept(*candidates: tuple[Violation, int]) -> dict[str, tuple[Case, int]]:
    found = CandidateTable()
    for one, n in candidates:
        found.add(one, past(n))
    (candidates,) = found.found.values()
    return {kind: (c.violation.case, len(c.history)) for kind, c in candidates.items()}


def test_a_smaller_case_does_not_take_the_place_of_one_that_was_seen_sooner() -> None:
    assert kept((seen(LARGE), 1), (seen(SMALL), 40)) == {"smallest": (SMALL, 40), "soonest": (LARGE, 1)}
    assert kept((seen(SMALL), 40), (seen(LARGE), 1)) == {"smallest": (SMALL, 40), "soonest": (LARGE, 1)}


def test_other_kinds_of_cases_have_places_of_their_own() -> None:
    call = Call(SMALL.iovec, SMALL.total_size)
    cases = {
        "sequence": replace(SMALL, sequence=(call, End(0))),
        "concurrent": replace(SMALL, concurrent=(call,)),
        "kernel fault": replace(SMALL, kernel_fault=KernelFault("sealed")),
    }
    found = kept((seen(SMALL), 0), *((seen(case), 2) for case in cases.values()))
    assert found == {"smallest": (SMALL, 0), "soonest": (SMALL, 0), **{kind: (cases[kind], 2) for kind in cases}}


def test_a_history_ends_where_the_violation_was_seen() -> None:
    calls = [SMALL]
    found = CandidateTable()
    found.add(seen(LARGE), Past(calls, 1))
    calls.append(LARGE)
    assert found.found[key(seen(LARGE))]["soonest"].history == (SMALL,)


def test_merged_shards_keep_the_better_of_each_kind_and_tell_what_is_new() -> None:
    one, other = CandidateTable(), CandidateTable()
    one.add(seen(LARGE), past(1))
    other.add(seen(SMALL), past(9))
    other.add(seen(SMALL, "another"), past(0))
    assert one.merge(other) == [seen(SMALL, "another")]
    assert {kind: len(c.history) for kind, c in one.found[key(seen(SMALL))].items()} == {"smallest": 9, "soonest": 1}
    assert one.merge(other) == []
