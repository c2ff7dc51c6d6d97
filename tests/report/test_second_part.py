"""The second part of a report as text and as JSON: what lies behind the first fault, apart from the verdict."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

from made_reports import SUBJECT, report, violation
from msgspec.structs import replace
from rich.console import Console

from vfio_verify.campaign.check import Behind, Result
from vfio_verify.campaign.tally import Tally
from vfio_verify.judge import Violation
from vfio_verify.report.report import Report
from vfio_verify.report.text import print_report
from vfio_verify.values.spec import clauses


def shown(what: Report) -> str:
    page = io.StringIO()
    print_report(what, Console(file=page, width=80))
    return page.getvalue()


def behind(*violations: Violation, told: Sequence[Violation] = (), **fields: object) -> Report:
    subject = replace(SUBJECT, assume=("vfio_device_get_region_info=true",))
    result = Result(Tally(layouts=5, runs=6), confirmed=violations, **fields)
    return report(told, behind=Behind(subject, result))


def second_part(what: Report) -> str:
    return shown(what).partition("\nIf vfio_device_get_region_info() returned true")[2]


def test_a_second_part_goes_on_with_the_numbers_and_says_what_is_assumed_and_what_is_true():
    text = second_part(behind(violation("CONTENTS", "a page"), violation("CONFINED", "a call"), told=[violation()]))
    assert "2 more violations." in text
    assert "vfio_device_get_region_info() returns 0 on success" in text
    assert "5 layouts, 6 calls" in text
    assert [line for line in text.splitlines() if line[:1].isdigit() and line[1:2] == "."] == [
        "2. CONTENTS: a page",
        "3. CONFINED: a call",
    ]


def test_a_second_part_tells_nothing_again():
    text = second_part(behind(violation("CONTENTS", "a page"), told=[violation("CONTENTS", "a page")]))
    assert "no more violations." in text
    assert "a page" not in text


def test_a_second_part_that_is_not_whole_or_not_sure_says_so():
    assert "nothing more is confirmed." in second_part(behind(interrupted=True))
    assert "interrupted after 5 layouts" in second_part(behind(interrupted=True))
    text = second_part(behind(unconfirmed=(violation("CONTENTS", "a page"),)))
    assert "nothing more is confirmed." in text
    assert "Seen once, but not again in a fresh process: CONTENTS: a page" in text


def test_a_second_part_has_no_part_in_the_verdict_nor_in_the_exit_status():
    what = behind(violation("CONTENTS", "a page"))
    assert (what.verdict, what.exit_status) == ("conforms", 0)
    assert what.behind
    assert what.behind.verdict == "violates"
    assert {clause.status for clause in what.clauses} == {"holds", "not exercised"}
    assert behind(interrupted=True).exit_status == 130  # the user's wish


def test_only_a_report_with_a_second_part_has_it_in_its_json():
    assert "behind" not in json.loads(report().to_json())
    told = json.loads(behind(violation("CONTENTS", "a page")).to_json())["behind"]
    assert told["subject"]["assume"] == ["vfio_device_get_region_info=true"]
    assert "behind" not in told


def test_a_verdict_under_an_assumption_says_so_in_its_first_line():
    subject = replace(SUBJECT, assume=("vfio_device_get_region_info=true",))
    assert shown(report(subject=subject)).startswith("map_it() conforms, under an assumption\n")
    both = replace(subject, assume=(*subject.assume, "vfio_device_lookup=0"))
    (first, *more) = shown(report([violation()], both)).splitlines()
    assert first == f"map_it() violates 1 of {len(clauses())} clauses, under 2 assumptions"
    assert more[0].startswith("vfio_device_get_region_info=true: vfio_device_get_region_info() returns true")
