"""Reports as JUnit XML: Jenkins' schema takes them, and a CI system shows what the report says."""

from __future__ import annotations

import io
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
import xmlschema
from made_reports import NASTY, SUBJECT, placed, report, violation
from msgspec.structs import replace
from places import TESTS

from vfio_verify.campaign.check import Behind, Result
from vfio_verify.campaign.tally import Tally
from vfio_verify.report.junit import to_junit
from vfio_verify.report.report import Report
from vfio_verify.values.spec import clauses

SCHEMA = xmlschema.XMLSchema(TESTS / "schemas" / "jenkins-junit-10.xsd")


def suite_of(what: Report, seconds: float | None = None) -> Element:
    document = to_junit(what, seconds)
    SCHEMA.validate(io.BytesIO(document))
    root = ElementTree.fromstring(document)
    assert [child.tag for child in root] == ["testsuite"]
    return root[0]


def case_of(suite: Element, clause: str) -> Element:
    (case,) = [case for case in suite.findall("testcase") if case.get("name") == clause]
    return case


def test_what_lies_behind_the_first_fault_is_no_test_case() -> None:
    subject = replace(SUBJECT, assume=("vfio_device_lookup=0",))
    behind = Behind(subject, Result(Tally(layouts=5, runs=6), confirmed=(violation("CONFINED", "a call astray"),)))
    first = [violation("ACCEPTS_VALID", "refused")]
    plain, both = suite_of(report(first)), suite_of(report(first, behind=behind))
    output = both.find("system-out")
    assert output is not None
    assert "If vfio_device_lookup() returned 0 on success" in (output.text or "")
    assert "2. CONFINED: a call astray" in (output.text or "")
    both.remove(output)
    assert ElementTree.tostring(plain).split() == ElementTree.tostring(both).split()


def test_a_suite_says_what_was_assumed() -> None:
    suite = suite_of(report(subject=replace(SUBJECT, assume=("vfio_device_lookup=0",))))
    assert suite.find("properties/property[@name='assume']").get("value") == "vfio_device_lookup=0"  # type: ignore[union-attr]
    assert suite_of(report()).find("properties/property[@name='assume']") is None


@pytest.mark.parametrize("broken", [b' tests="18"', b'name="CONTENTS" ', b'<property name="seed" value="4" />'])
def test_the_schema_tells_good_from_bad(broken: bytes) -> None:
    document = to_junit(report())
    assert broken in document
    bad = document.replace(broken, b"<seed/>" if b"seed" in broken else b"")
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        SCHEMA.validate(io.BytesIO(bad))


def test_every_clause_is_a_test_case() -> None:
    suite = suite_of(report())
    assert [case.get("name") for case in suite.findall("testcase")] == list(clauses())


def test_a_violated_clause_is_a_failure_with_the_whole_block() -> None:
    suite = suite_of(report([violation(summary="it broke", seen="a hole"), violation(summary="it broke again")]))
    (failure,) = case_of(suite, "CONTENTS")
    assert failure.tag == "failure"
    assert failure.get("message") == "it broke (and 1 more)"
    assert failure.text is not None
    for part in ("1. CONTENTS: it broke", "seen        a hole", "2. CONTENTS: it broke again", "--case '{", "iovec"):
        assert part in failure.text
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == [str(len(clauses())), "1", "0", str(len(clauses()) - 3)]


def test_what_no_run_exercised_is_skipped_and_says_so() -> None:
    suite = suite_of(report())
    (skipped,) = case_of(suite, "READ_ONLY")
    assert skipped.tag == "skipped"
    assert "not exercised" in str(skipped.get("message"))
    assert list(case_of(suite, "SURVIVES")) == []


def test_advice_is_told_and_never_a_failure() -> None:
    suite = suite_of(report([violation("UNCHARGED", "it is charged")]))
    assert suite.get("failures") == "0"
    (said,) = case_of(suite, "UNCHARGED")
    assert said.tag == "system-out"
    assert "it is charged" in str(said.text)


def test_an_interrupted_check_is_not_green() -> None:
    suite = suite_of(report(interrupted=True))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")
    (error,) = case_of(suite, "the whole check")
    assert "interrupted after 7 layouts" in str(error.get("message"))


def test_what_was_seen_once_is_an_error_of_its_clause_and_what_was_left_out_one_of_the_check() -> None:
    suite = suite_of(report(unconfirmed=(violation(summary="a whim"),), left_out={"layouts": 2}))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "2")
    (error,) = case_of(suite, "CONTENTS")
    assert (error.tag, error.get("type")) == ("error", "unconfirmed")
    assert "not again in a fresh process: CONTENTS: a whim" in str(error.get("message"))
    (whole,) = case_of(suite, "the whole check")
    assert "left out: 2 layouts" in str(whole.get("message"))
    assert "not again in a fresh process: CONTENTS: a whim" in str(suite.findtext("system-out"))


def test_a_check_that_judged_nothing_is_an_error() -> None:
    suite = suite_of(report(layouts=0, runs=0, checked={}))
    (error,) = case_of(suite, "the whole check")
    assert (error.get("type"), error.get("message")) == ("no verdict", "nothing was judged")
    assert not [p for p in suite.iter("property") if p.get("name") == "verdict"]


def test_seed_version_and_layouts_are_properties_and_the_time_is_the_caller_s() -> None:
    suite = suite_of(report(), 1234.5678)
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (properties["seed"], properties["layouts"], properties["place"]) == ("4", "7", "hw/a.c:12")
    assert suite.get("time") == "1234.568"
    assert suite_of(report()).get("time") is None


def test_characters_that_xml_has_no_place_for_are_shown_as_escapes() -> None:
    """XML 1.0 cannot hold most control characters, not even escaped."""
    nasty = violation(summary=NASTY, seen=NASTY, message=NASTY)
    suite = suite_of(report([nasty], subject=placed(f"{NASTY}.c:3", NASTY), unconfirmed=(nasty,)))
    (failure,) = case_of(suite, "CONTENTS")
    message = str(failure.get("message"))
    assert message == NASTY.replace("\r", "\\r").replace("\x00", "\\x00").replace("\x01", "\\x01").replace(
        "\x1b", "\\x1b"
    ).replace("\x85", "\\x85").replace("\u202e", "\\u202e").replace("\ud800", "\\ud800").replace("\ufffe", "\\ufffe")
    assert "\\x1b[31m" in str(suite.get("name"))
