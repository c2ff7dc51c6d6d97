"""Reports as SARIF 2.1.0: OASIS's schema takes them, and code scanning finds the place, the rule and the same alert."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from case_texts import from_json
from made_reports import CASE, NASTY, SUBJECT, placed, report, violation
from msgspec.structs import replace
from places import CHECKOUT, TESTS

from vfio_verify.campaign.check import Behind, Result
from vfio_verify.campaign.tally import Tally
from vfio_verify.report.location import locate
from vfio_verify.report.report import Report
from vfio_verify.report.sarif import to_sarif
from vfio_verify.subject.subject import CORE
from vfio_verify.values.spec import clauses

SCHEMA = json.loads((TESTS / "schemas" / "sarif-schema-2.1.0.json").read_bytes())
CHECKER = jsonschema.FormatChecker()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA, format_checker=CHECKER)


def run_of(what: Report, root: Path, directory: Path | None = None) -> dict[str, Any]:
    log = json.loads(to_sarif(what, locate(what, root, directory or root)))
    VALIDATOR.validate(log)
    (run,) = log["runs"]
    return run  # type: ignore[no-any-return]


def physical(run: dict[str, Any]) -> dict[str, Any]:
    (location,) = run["results"][0]["locations"]
    return location.get("physicalLocation", {})  # type: ignore[no-any-return]


def fingerprints(run: dict[str, Any]) -> list[str]:
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        (["version"], "2.0.0"),
        (["runs", 0, "results", 0, "message"], {}),
        (["runs", 0, "results", 0, "level"], "advice"),
        (["runs", 0, "results", 0, "ruleIndex"], -2),
        (["runs", 0, "columnKind"], "bytes"),
        (["runs", 0, "originalUriBaseIds", "SRCROOT", "uri"], "not a uri"),
    ],
)
def test_the_schema_tells_good_from_bad(path: list[str | int], bad: object, tmp_path: Path) -> None:
    what = report([violation()])
    log = json.loads(to_sarif(what, locate(what, tmp_path, tmp_path)))
    place: Any = log
    for step in path[:-1]:
        place = place[step]
    assert path[-1] in place
    place[path[-1]] = bad
    assert not VALIDATOR.is_valid(log)


def test_every_clause_is_a_rule_and_a_violation_points_at_its_own(tmp_path: Path) -> None:
    run = run_of(report([violation("UNCHARGED"), violation("SURVIVES")]), tmp_path)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(clauses())
    assert all(len(rule["shortDescription"]["text"]) > 20 for rule in rules)
    levels = {}
    for result in run["results"]:
        rule = rules[result["ruleIndex"]]
        assert rule["id"] == result["ruleId"]
        assert rule["defaultConfiguration"]["level"] == result["level"]
        levels[result["ruleId"]] = result["level"]
    assert levels == {"SURVIVES": "error", "UNCHARGED": "note"}


def test_a_result_holds_what_reproduces_it(tmp_path: Path) -> None:
    (result,) = run_of(report([violation(seen="a hole")]), tmp_path)["results"]
    assert from_json(json.dumps(result["properties"]["case"])) == CASE
    case = re.search(r"--case '(.*)'$", result["properties"]["reproduce"])
    assert case is not None
    assert from_json(case[1]) == CASE
    assert "a hole" in result["message"]["text"]
    assert "a hole" in result["message"]["markdown"]


# ---- places ---------------------------------------------------------------------------------------------------


def test_a_file_below_the_root_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "a b%.c").touch()
    for place, directory in (("a b%.c:12", tmp_path / "hw"), (f"{tmp_path}/hw/a b%.c:12", Path("/"))):
        run = run_of(report([violation()], placed(place)), tmp_path, directory)
        assert physical(run) == {
            "artifactLocation": {"uri": "hw/a%20b%25.c", "uriBaseId": "SRCROOT"},
            "region": {"startLine": 12},
        }
        assert run["originalUriBaseIds"]["SRCROOT"]["uri"] == f"{tmp_path.as_uri()}/"


def test_a_file_elsewhere_has_its_whole_uri(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "é.c").touch()
    for place in (f"{tmp_path}/é.c:1", "../é.c:1"):
        run = run_of(report([violation()], placed(place)), root)
        assert physical(run)["artifactLocation"] == {"uri": f"{tmp_path.as_uri()}/%C3%A9.c"}


def test_a_name_that_is_not_utf_8_keeps_its_bytes(tmp_path: Path) -> None:
    run = run_of(report([violation()], placed("\udcff.c:1", "\udcff.c")), tmp_path)
    assert physical(run)["artifactLocation"]["uri"] == "%FF.c"


def test_a_patch_s_path_is_taken_from_the_root_though_no_such_file_is_there(tmp_path: Path) -> None:
    assert physical(run_of(report([violation()]), tmp_path))["artifactLocation"]["uri"] == "hw/a.c"


@pytest.mark.parametrize("place", ["<standard input>:3", None, "../../etc/passwd:1"])
def test_what_has_no_file_of_the_tree_names_its_function_only(place: str | None, tmp_path: Path) -> None:
    (result,) = run_of(report([violation()], placed(place)), tmp_path)["results"]
    assert result["locations"] == [{"logicalLocations": [{"name": "map_it", "kind": "function"}]}]


def test_the_core_is_at_its_definition_in_this_project(tmp_path: Path) -> None:
    """Code scanning refuses a file with a result that has no place."""
    place = physical(run_of(report([violation()], CORE), CHECKOUT))
    assert place["artifactLocation"] == {"uri": "pyx/_core.pyx", "uriBaseId": "SRCROOT"}
    line = (CHECKOUT / "pyx" / "_core.pyx").read_text(encoding="utf-8").splitlines()[place["region"]["startLine"] - 1]
    assert line.startswith("cdef api int core_map(")
    assert "region" not in physical(run_of(report([violation()], CORE), tmp_path))


# ---- alerts that stay the same ------------------------------------------------------------------------------------


def test_the_same_fault_has_the_same_fingerprint_in_another_run(tmp_path: Path) -> None:
    first = report([violation(summary="SIGSEGV at NULL + 0x18", seen="0x1000", cause="c")])
    later = report([violation(summary="told in other words", seen="0x9000", cause="c")], layouts=99)
    assert fingerprints(run_of(first, tmp_path)) == fingerprints(run_of(later, CHECKOUT))


def test_other_faults_have_other_fingerprints(tmp_path: Path) -> None:
    found = [violation("SURVIVES"), *(violation(summary=text) for text in ("a sentence", "other", "n 1", "n 2"))]
    prints = fingerprints(run_of(report(found), tmp_path))
    prints += fingerprints(run_of(report([violation()], replace(SUBJECT, function="another")), tmp_path))
    assert len(set(prints)) == len(found) + 1


# ---- the run ----------------------------------------------------------------------------------------------------


def test_the_invocation_tells_how_the_check_ended(tmp_path: Path) -> None:
    (good,) = run_of(report(), tmp_path)["invocations"]
    (bad,) = run_of(report([violation()]), tmp_path)["invocations"]
    (stopped,) = run_of(report(interrupted=True, unconfirmed=(violation(summary="a whim"),)), tmp_path)["invocations"]
    assert [(i["executionSuccessful"], i["exitCode"]) for i in (good, bad, stopped)] == [
        (True, 0),
        (True, 1),
        (False, 130),
    ]
    (doubtful,) = run_of(report(unconfirmed=(violation(),)), tmp_path)["invocations"]
    (part,) = run_of(report(left_out={"layouts": 2}), tmp_path)["invocations"]
    (nothing,) = run_of(report(layouts=0, runs=0, checked={}), tmp_path)["invocations"]
    assert [(i["executionSuccessful"], i["exitCode"]) for i in (doubtful, part, nothing)] == [
        (True, 4),
        (False, 4),
        (False, 4),
    ]
    assert [note["level"] for note in doubtful["toolExecutionNotifications"]] == ["warning"]
    assert part["toolExecutionNotifications"][0]["message"]["text"] == "Left out: 2 layouts."
    said = [note["message"]["text"] for note in stopped["toolExecutionNotifications"]]
    assert said[0].startswith("Interrupted")
    assert "CONTENTS: a whim" in said[1]


def test_a_conforming_subject_has_no_results_and_keeps_the_list(tmp_path: Path) -> None:
    """An absent list would mean that nothing was looked for, and close no alert."""
    assert run_of(report(), tmp_path)["results"] == []


def test_any_character_is_told(tmp_path: Path) -> None:
    nasty = violation(summary=NASTY, seen=NASTY, message=NASTY)
    run = run_of(report([nasty], placed(f"{NASTY}.c:3", NASTY), unconfirmed=(nasty,)), tmp_path)
    (result,) = run["results"]
    assert "\\x1b[31m" in result["message"]["text"]
    block = result["message"]["markdown"].split("\n\n", 1)[1]
    fence = block.split("text", 1)[0]
    assert set(fence) == {"`"}
    assert block.count(fence) == 2  # what the subject says does not end the block


def test_what_lies_behind_the_first_fault_is_a_notification_and_no_result(tmp_path: Path) -> None:
    subject = replace(SUBJECT, assume=("vfio_device_lookup=0",))
    astray = violation("CONFINED", "a call astray")
    behind = Behind(subject, Result(Tally(layouts=5, runs=6), confirmed=(astray, violation())))
    plain = run_of(report([violation()]), tmp_path)
    both = run_of(report([violation()], behind=behind), tmp_path)
    assert both["results"] == plain["results"]
    assert both["properties"] == plain["properties"]
    heading, told = both["invocations"][0]["toolExecutionNotifications"]
    assert heading["message"]["text"].startswith("If vfio_device_lookup() returned 0 on success, ")
    assert told["message"]["text"] == "If vfio_device_lookup() returned 0 on success: CONFINED: a call astray"
    assert {heading["level"], told["level"]} == {"note"}
    assert told["locations"][0]["physicalLocation"]["region"]["startLine"] == 12
