"""What a comparison tells, and exits with, by comparisons made by hand."""

from __future__ import annotations

import io
from typing import Any

import pytest
from made_reports import NASTY, SUBJECT, violation
from msgspec.structs import replace
from rich.console import Console

from vfio_verify.campaign import compare as module
from vfio_verify.campaign.check import Result
from vfio_verify.campaign.compare import Compared, Comparison, Shown, compare
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.pool import Pool
from vfio_verify.campaign.tally import Tally
from vfio_verify.judge import Consequence, Violation
from vfio_verify.report.comparison import ComparisonReport, comparison_report, labels, print_comparison

PAIR = (SUBJECT, replace(SUBJECT, name="b.c"))
NONE: frozenset[tuple[str, str]] = frozenset()


def result(*confirmed: Violation, **more: Any) -> Result:
    left_out = more.pop("left_out", {})
    tally = Tally(layouts=7, runs=9, checked={"CONTENTS": 3, "SURVIVES": 9}, left_out=left_out)
    return Result(tally, confirmed=confirmed, **more)


def told(first: Result, last: Result, *compared: Compared, interrupted: bool = False) -> ComparisonReport:
    return comparison_report(PAIR, Options(), Comparison((first, last), compared, interrupted))


def found(one: Violation, *shown: Shown) -> Compared:
    return Compared(len(shown) - 1, one, shown, (NONE,) * len(shown))


def printed(report: ComparisonReport) -> str:
    page = io.StringIO()
    print_comparison(report, Console(file=page, width=80, color_system=None, highlight=False, markup=False))
    return page.getvalue()


ONE = violation()
ADVICE = violation("UNCHARGED")


def test_what_came_in_is_status_1() -> None:
    report = told(result(), result(ONE), found(ONE, "not violated", "violated"))
    assert (report.verdict, report.exit_status) == ("came in", 1)


def test_advice_that_came_in_is_told_and_fails_nothing() -> None:
    report = told(result(), result(ADVICE), found(ADVICE, "not violated", "violated"))
    assert (report.verdict, report.exit_status) == ("nothing came in", 0)
    assert "1. UNCHARGED (advice): a sentence" in printed(report)


@pytest.mark.parametrize(
    "report",
    [
        told(result(), result(ONE), found(ONE, "unconfirmed", "violated")),
        told(result(), result(unconfirmed=(ONE,))),
        told(result(), result(left_out={"sequences": 3})),
        told(result(), Result()),
        # CONTENTS is violated beside another clause, which the first version violates, too.
        told(
            result(violation("SURVIVES")),
            result(violation("SURVIVES", consequences=(Consequence("CONTENTS", "c", "s"),))),
        ),
    ],
)
def test_what_is_not_known_is_status_4_and_told(report: ComparisonReport) -> None:
    assert (report.verdict, report.exit_status) == ("undecided", 4)
    assert report.doubts
    assert all(doubt in " ".join(printed(report).split()) for doubt in report.doubts)


@pytest.mark.parametrize("shown", [("violated", "unconfirmed"), ("unconfirmed", "not violated")])
def test_what_cannot_be_new_is_told_and_fails_nothing(shown: tuple[Shown, Shown]) -> None:
    first, last = (result(ONE), result(unconfirmed=(ONE,))) if shown[0] == "violated" else (result(), result())
    report = told(first, last, Compared(0, ONE, shown, (NONE, NONE)))
    assert (report.verdict, report.exit_status) == ("nothing came in", 0)
    assert "Undecided" in printed(report)


def test_an_interrupted_one_is_status_130() -> None:
    report = told(result(), result(ONE), found(ONE, "not run", "violated"), interrupted=True)
    assert report.exit_status == 130
    assert "CONTENTS: not yet run on all versions." in printed(report)


def test_a_version_that_only_anothers_case_shows_to_violate_does_not_conform() -> None:
    report = told(result(ONE), result(), Compared(0, ONE, ("violated", "violated"), (NONE, NONE)))
    assert [one.verdict for one in report.versions] == ["violates", "violates"]
    assert next(row.statuses for row in report.clauses if row.id == "CONTENTS") == ("violated", "violated")


def test_a_fault_that_may_have_been_hidden_has_a_note() -> None:
    one = violation("CONFINED")
    report = told(result(), result(one), found(one, "not violated", "violated"))
    assert "note        no run of a.c got that far, so it may be older" in printed(report)
    report = told(result(one), result(), Compared(0, one, ("violated", "not violated"), (NONE, NONE)))
    assert "note        no run of b.c got that far, so it may still be there" in printed(report)


def test_versions_are_called_by_number_or_file_else_by_letters() -> None:
    series = [replace(SUBJECT, arguments=("--version", str(n))) for n in (5, 6)]
    assert labels(series) == ("v5", "v6")
    assert labels(PAIR) == ("a.c", "b.c")
    assert labels((SUBJECT, SUBJECT)) == ("A", "B")
    assert labels([SUBJECT] * 28)[25:] == ("Z", "AA", "AB")


def test_many_versions_and_odd_characters_stay_within_80_columns() -> None:
    subjects = [replace(SUBJECT, title=NASTY.replace("\n", " "))] * 9
    comparison = Comparison((result(),) * 9, ())
    page = printed(comparison_report(subjects, Options(), comparison))
    assert all(len(line) <= 80 for line in page.splitlines())
    assert page.count("CONTIGUOUS") == 3


def test_what_the_first_versions_own_campaign_has_seen_once_did_not_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [result(unconfirmed=(ONE,)), result(ONE)]
    monkeypatch.setattr(module, "check_each", lambda *_: results)
    monkeypatch.setattr(module, "run_on", lambda *_: [module._OnOther("not violated", NONE)])
    with Pool(1) as pool:
        comparison = compare(PAIR, Options(), pool)
    assert [one.shown for one in comparison.violations] == [("unconfirmed", "violated")]
    assert comparison_report(PAIR, Options(), comparison).exit_status == 4
