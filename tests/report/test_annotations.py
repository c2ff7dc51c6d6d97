"""What GitHub Actions is told: the first violations at their place, nothing that a subject made up, and a summary."""

from __future__ import annotations

import re
from pathlib import Path

from made_reports import NASTY, SUBJECT, placed, report, violation
from markdown_it import MarkdownIt
from msgspec.structs import replace

from vfio_verify.campaign.check import Behind, Result
from vfio_verify.campaign.tally import Tally
from vfio_verify.report.annotations import SUMMARY_LIMIT, commands, summary
from vfio_verify.report.location import Location, Locations
from vfio_verify.report.report import Report

PLACE = Location("hw/a.c", 12)


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """As the runner reads it: the first "::" ends the properties, which a comma parts; then escapes are undone."""
    found = re.fullmatch(r"::(\w+)(?: (.*?))?::(.*)", line)
    assert found, line
    back = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))

    def undo(text: str, *, is_property: bool) -> str:
        for escape, character in back:
            if is_property or character not in ":,":
                text = text.replace(escape, character)
        return text

    fields = dict(field.split("=", 1) for field in (found[2] or "").split(","))
    return found[1], {k: undo(v, is_property=True) for k, v in fields.items()}, undo(found[3], is_property=False)


def told(what: Report, location: Location | None = PLACE) -> list[tuple[str, dict[str, str], str]]:
    return [read_command(line) for line in commands(what, at(what, location))]


def at(what: Report, location: Location | None) -> Locations:
    return Locations(Path(), location, (location,) * len(what.violations), (location,) * len(what.further))


def test_a_violation_is_an_error_at_its_place() -> None:
    ((kind, properties, message),) = told(report([violation("SURVIVES", "it died", "SIGSEGV")]))
    assert kind == "error"
    assert properties == {"file": "hw/a.c", "line": "12", "title": "vfio-verify: SURVIVES"}
    lines = message.split("\n")
    assert lines[0] == "it died"
    assert "seen: SIGSEGV" in lines
    assert lines[-1].startswith("vfio-verify check a.c --function map_it --case ")


def test_only_the_first_five_are_marked_and_one_line_counts_the_rest() -> None:
    lines = told(report([violation(summary=f"number {i}") for i in range(12)]))
    assert [kind for kind, _, _ in lines] == ["error"] * 5 + ["notice"]
    assert [message.split("\n")[0] for _, _, message in lines[:5]] == [f"number {i}" for i in range(5)]
    assert lines[5][2].startswith("7 more violations of map_it()")
    assert len(told(report([violation(summary=f"number {i}") for i in range(5)]))) == 5


def test_advice_is_a_notice_and_takes_no_violation_s_place() -> None:
    found = [*(violation("UNCHARGED", f"advice {i}") for i in range(3)), *(violation() for _ in range(5))]
    assert [kind for kind, _, _ in told(report(found))] == ["error"] * 5 + ["notice"]
    assert [kind for kind, _, _ in told(report(found[:1]))] == ["notice"]


def test_an_interrupted_check_warns() -> None:
    assert [kind for kind, _, _ in told(report(interrupted=True))] == ["warning"]


def test_what_is_not_confirmed_warns_and_no_verdict_is_an_error() -> None:
    ((kind, properties, message),) = told(report(unconfirmed=(violation(summary="a whim"),)))
    assert (kind, properties["title"]) == ("warning", "vfio-verify: CONTENTS")
    assert message == "Seen once, but not again in a fresh process: CONTENTS: a whim"
    assert [kind for kind, _, _ in told(report(left_out={"layouts": 2}))] == ["warning"]
    assert [kind for kind, _, _ in told(report(layouts=0, runs=0, checked={}))] == ["error"]


def test_a_conforming_subject_is_told_nothing_of() -> None:
    assert told(report()) == []


def test_a_subject_without_a_file_is_marked_without_a_place() -> None:
    ((_, properties, _),) = told(report([violation()]), None)
    assert properties == {"title": "vfio-verify: CONTENTS"}


def test_no_character_breaks_a_command_or_makes_another() -> None:
    where = Location("a,b:c%3A\n::error::.c", 3)
    what = report([violation(summary=NASTY, seen=NASTY, message=NASTY)], placed(None, NASTY))
    (line,) = commands(what, at(what, where))
    assert "\n" not in line
    assert "\r" not in line
    assert "\x1b" not in line
    _, properties, message = read_command(line)
    assert properties["file"] == where.path
    assert "]]> & <b a='\"'> | ``` \n::error::no\\r\\x00\\x01\\x1b[31m" in message


def test_a_message_has_an_end() -> None:
    what = report([violation(seen="x" * 100_000)])
    (line,) = commands(what, at(what, PLACE))
    assert len(line) < 8000


# ---- the summary ------------------------------------------------------------------------------------------------


def test_the_summary_has_the_verdict_the_first_violations_and_every_clause() -> None:
    text = summary(report([violation(summary=f"number {i}") for i in range(7)])).decode()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open"]
    assert headings[0] == "map\\_it\\(\\) violates"
    assert len(headings) == 6
    assert sum(token.type == "fence" for token in tokens) == 5
    assert "2 more in the report." in text
    rows = [token.content for token in tokens if token.type == "inline"]
    assert {"CONTENTS", "violated", "NO\\_LEAK", "not exercised"} <= set(rows)


def test_nothing_in_the_summary_is_marked_up_by_a_subject() -> None:
    """Only what this program writes makes headings, tables and blocks; there is no link, no image and no HTML."""
    odd = f"{NASTY} ![x](http://x) <img src=x> # h"
    plain = summary(report([violation(summary="s", seen="s")], placed(None, "n"))).decode()
    nasty = summary(report([violation(summary=odd, seen=odd, message=odd)], placed(None, odd))).decode()
    parser = MarkdownIt("commonmark").enable("table")
    kinds = [
        [[child.type for child in token.children or [] if child.type != "text_special"] for token in parser.parse(text)]
        for text in (plain, nasty)
    ]
    assert [token.type for token in parser.parse(plain)] == [token.type for token in parser.parse(nasty)]
    assert {kind for page in kinds for token in page for kind in token} == {"text"}


def test_a_summary_that_github_would_drop_is_replaced() -> None:
    page = summary(report([violation(seen="x" * SUMMARY_LIMIT)]))
    assert len(page) < 1000
    assert b"violates" in page


def test_what_lies_behind_the_first_fault_is_a_notice_and_a_part_of_its_own() -> None:
    subject = replace(SUBJECT, assume=("vfio_device_lookup=0",))
    more = tuple(violation("CONFINED", f"call {i}") for i in range(7))
    what = report([violation("ACCEPTS_VALID", "refused")], behind=Behind(subject, Result(Tally(), confirmed=more)))
    (first, *others) = told(what)
    assert first[0] == "error"
    assert [kind for kind, _, _ in others] == ["notice"] * 5
    _, properties, message = others[0]
    assert properties == {"file": "hw/a.c", "line": "12", "title": "vfio-verify: CONFINED, behind the first fault"}
    assert message.startswith("If vfio_device_lookup() returned 0 on success, as this code takes it:\ncall 0\n")
    page = summary(what).decode()
    assert "\n## If vfio\\_device\\_lookup\\(\\) returned 0 on success" in page
    places = [page.index(text) for text in ("### 1. ACCEPTS", "| clause |", "### 2. CONFINED", "2 more in")]
    assert places == sorted(places)
