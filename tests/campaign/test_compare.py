"""What became of a violation between versions, and that a comparison's campaign is a check of each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from made_reports import violation
from subject_files import DIRECTORY, built_once, needs_compiler

from vfio_verify.campaign import compare as module
from vfio_verify.campaign.check import check, check_each
from vfio_verify.campaign.compare import Compared, Shown, change, compare, once
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import LostProcessError, Pool
from vfio_verify.judge.attribution import key
from vfio_verify.subject.subject import CORE

YES, NO, UNSURE, UNASKED = "violated", "not violated", "unconfirmed", "not applicable"


@pytest.mark.parametrize(
    ("shown", "became"),
    [
        ((NO, YES), "came in"),
        ((UNASKED, YES), "came in"),
        ((YES, NO), "fixed"),
        ((YES, UNASKED), "fixed"),
        ((YES, YES), "still violated"),
        ((UNSURE, YES), "undecided"),
        ((YES, UNSURE), "undecided"),
        (("not run", YES), "undecided"),
        ((NO, YES, NO), "in between"),
        ((NO, UNSURE, YES), "came in"),
        ((YES, NO, YES), "still violated"),
        ((NO, YES, UNSURE), "undecided"),
    ],
)
def test_the_first_and_the_last_version_decide(shown: Sequence[Shown], became: str) -> None:
    assert change(shown) == became


@pytest.mark.parametrize("shown", list(itertools.product((YES, NO, UNSURE, UNASKED, "not run"), repeat=2)))
def test_nothing_comes_in_that_the_first_version_may_have(shown: tuple[Shown, Shown]) -> None:
    came_in = change(shown) == "came in"
    assert came_in == (shown[1] == YES and shown[0] in (NO, UNASKED))


NONE: frozenset[tuple[str, str]] = frozenset()


def test_a_violation_that_two_versions_have_is_told_once_by_the_later_one() -> None:
    first, last = violation(cause="a.c:10"), violation(cause="a.c:12")
    shown: tuple[Shown, ...] = (YES, YES)
    pair = [Compared(0, first, shown, (NONE, frozenset([key(last)]))), Compared(1, last, shown, (NONE, NONE))]
    assert [one.version for one in once(pair)] == [1]


def test_two_causes_of_one_clause_stay_two() -> None:
    first, last = violation(cause="hole"), violation(cause="order")
    both: tuple[Shown, ...] = (YES, YES)
    apart = [Compared(0, first, both, (NONE, frozenset([key(first)]))), Compared(1, last, both, (NONE, NONE))]
    assert len(once(apart)) == 2


def test_what_the_smallest_case_tells_apart_stays_apart() -> None:
    """The same cause, but the last version violates the clause in a case in which the first does not."""
    old, new = violation(cause="hole"), violation(cause="hole")
    by_old = Compared(0, old, (YES, YES), (NONE, frozenset([key(new)])))
    by_new = Compared(1, new, (NO, YES), (NONE, NONE))
    assert [one.change for one in once([by_old, by_new])] == ["came in", "still violated"]


@needs_compiler
@pytest.mark.usefixtures("steady_huge_pages")
def test_the_campaign_over_several_is_a_check_of_each() -> None:
    options = Options(examples=30)
    with built_once(DIRECTORY / "broken" / "newline_in_message.c") as broken, Pool(1) as pool:
        together = check_each((CORE, broken), options, pool, lambda _, __: None)
        apart = [check(CORE, options), check(broken, options)]
    for one, other in zip(together, apart, strict=True):
        assert [(key(v), v.case, v.runs) for v in one.confirmed] == [(key(v), v.case, v.runs) for v in other.confirmed]
        assert (one.tally, one.kernel_faults) == (other.tally, other.kernel_faults)


@needs_compiler
def test_a_lost_process_costs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: Pool, function: object, *arguments: object, **here: object) -> object:
        if function is module.run_on:
            raise LostProcessError("gone")
        return given(self, function, *arguments, **here)  # type: ignore[arg-type]

    given = Pool.map
    monkeypatch.setattr(Pool, "map", lose)
    with built_once(DIRECTORY / "broken" / "newline_in_message.c") as broken, Pool(1) as pool:
        found = compare((CORE, broken), Options(examples=10), pool)
    assert [one.change for one in found.violations] == ["came in"]
