"""The pytest plugin, in real runs of pytest: the example project, its helper broken in several ways, and odd uses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import SHORT
from places import TESTS
from subject_files import needs_compiler

from vfio_verify.values.spec import clauses

pytest_plugins = ["pytester"]

EXAMPLE = TESTS / "example_project"
SUBJECTS = TESTS / "subjects"
CLAUSES = tuple(clauses())
HELPER = Path("src", "dmabuf_map.c")


@pytest.fixture(autouse=True)
def own_temporary_directory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What a run leaves behind is seen there; what was set for this run of the tests is not for those inside."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "short_campaigns.py").write_text(SHORT_CAMPAIGNS)
    monkeypatch.setenv("PYTHONPATH", str(plugins))
    for name in ("CI", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    return directory


SHORT_CHECK = f"""
{SHORT}
import runpy
runpy.run_module("vfio_verify", run_name="__main__", alter_sys=True)
"""
SHORT_CAMPAIGNS = f"""
import sys
from vfio_verify.testing.checks import Ask

whole = Ask.command
Ask.command = lambda ask: [sys.executable, "-P", "-c", {SHORT_CHECK!r}, *whole(ask)[4:]]
"""
"""A plugin by which a campaign's process goes without what takes most of its time."""


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return run_whole(pytester, "-p", "short_campaigns", *arguments)


def run_whole(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments, timeout=280)


def copy_example(pytester: pytest.Pytester) -> Path:
    shutil.copytree(EXAMPLE, pytester.path, dirs_exist_ok=True)
    return pytester.path


def statuses(path: Path) -> dict[str, str]:
    """The outcome of each test, from a JUnit file."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        found[case.attrib["name"]] = kinds[0] if kinds else "passed"
    return found


# ---- the example project -----------------------------------------------------------------------------------


COUNTS_CAMPAIGNS = """
import tempfile
from pathlib import Path

def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"):
        reports = list(Path(tempfile.gettempdir()).glob("vfio-verify-*/*.json"))
        print(f"{len(reports)} campaigns")
"""


@needs_compiler
@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_example_project_passes_with_one_campaign_for_all_its_tests(pytester, own_temporary_directory, processes):
    project = copy_example(pytester)
    (project / "conftest.py").write_text(COUNTS_CAMPAIGNS)
    result = run_whole(pytester, "-n", processes, "--vfio-examples", "60", "-s")
    result.assert_outcomes(passed=len(CLAUSES) + 2 + 3)
    # Both tests of the helper ask the same once the command line says how many layouts.
    result.stdout.fnmatch_lines(["*1 campaigns*"])
    assert list(own_temporary_directory.iterdir()) == []


# Changes of the example's helper, and the clauses that it then violates.
BROKEN = {
    "nothing is unmapped": ("        munmap(base, size);\n", "", {"UNMAP_ON_ERROR"}),
    # With a descriptor that is open for reading only, a kernel fault, such an overlay fails.
    "the guest's memory is writable": ("PROT_READ,", "PROT_READ | PROT_WRITE,", {"READ_ONLY", "ACCEPTS_VALID"}),
    # A driver that maps nothing outside the areas refuses the wrong place; another one shows it.
    "the area is forgotten": (" + block->mr->addr", "", {"CONTENTS", "ACCEPTS_VALID"}),
    "other blocks are taken": ("common && block != common", "false", {"SAME_BLOCK"}),
}


@needs_compiler
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_helper_fails_the_clauses_that_it_violates_and_no_others(pytester, how):
    project = copy_example(pytester)
    old, new, violated = BROKEN[how]
    source = (project / HELPER).read_text()
    assert source.count(old) == 1
    (project / HELPER).write_text(source.replace(old, new))
    result = run_whole(pytester, "-k", "conforms", "--vfio-examples", "50", "--junitxml", "out.xml")
    found = statuses(project / "out.xml")
    assert set(found) == {f"test_the_helper_conforms[{name}]" for name in CLAUSES}
    assert {name for name, status in found.items() if status == "failure"} == {
        f"test_the_helper_conforms[{name}]" for name in violated
    }
    text = result.stdout.str()
    for clause in violated:
        assert f"map_dmabuf() violates {clause}" in text
    assert "   vfio-verify check src/dmabuf_map.c --function map_dmabuf --case '{" in text
    assert "Traceback" not in text
    assert "pytest_plugin.py" not in text


@needs_compiler
def test_the_line_that_is_printed_shows_the_violation_again(pytester):
    project = copy_example(pytester)
    (project / HELPER).write_text((project / HELPER).read_text().replace("        munmap(base, size);\n", ""))
    result = run(pytester, "-k", "conforms and UNMAP", "--vfio-examples", "10")
    line = next(line.strip() for line in result.outlines if line.startswith("   vfio-verify check "))
    command = line.replace("vfio-verify", f"{sys.executable} -P -m vfio_verify", 1)
    again = subprocess.run(
        ["sh", "-c", command], cwd=project, capture_output=True, text=True, timeout=100, check=False
    )  # fmt: skip
    assert again.returncode == 1
    assert "UNMAP_ON_ERROR" in again.stdout


# ---- @verifies ---------------------------------------------------------------------------------------------


def test_fixtures_classes_and_marks_work_as_for_any_test(pytester):
    pytester.makepyfile(
        """
        import pytest
        from vfio_verify.pytest_plugin import verifies

        @pytest.fixture
        def helper():
            return "core"

        class TestHelper:
            @verifies("CONTENTS", "NO_LEAK")
            def test_it(self, helper):
                return helper

        @pytest.mark.skip(reason="not today")
        @verifies("CONTENTS")
        def test_later():
            return "core"

        @pytest.mark.parametrize("name", ["core"])
        @verifies("CONTENTS", "NO_LEAK")
        def test_each(name):
            return name
        """
    )
    result = run(pytester, "-v", "--vfio-examples", "10")
    result.assert_outcomes(passed=4, skipped=1)
    result.stdout.fnmatch_lines(["*::TestHelper::test_it?NO_LEAK? PASSED*"])


def test_a_clause_that_does_not_exist_is_told_when_the_test_is_collected(pytester):
    pytester.makepyfile("from vfio_verify.pytest_plugin import verifies\n@verifies('CONTENT')\ndef test_it(): ...\n")
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*there is no clause CONTENT; there are CONTIGUOUS, *"])


def test_a_test_that_returns_no_path_fails(pytester):
    pytester.makepyfile("from vfio_verify.pytest_plugin import verifies\n@verifies('CONTENTS')\ndef test_it(): ...\n")
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test_it() must return the path of a C file, but returned None"])


@needs_compiler
def test_what_no_run_exercises_is_skipped_with_the_reason(pytester):
    shutil.copy(SUBJECTS / "broken" / "everything_refused.c", pytester.path)
    pytester.makepyfile(
        """
        from vfio_verify.pytest_plugin import verifies

        @verifies("CONTENTS", "ACCEPTS_VALID")
        def test_it():
            return "everything_refused.c"
        """
    )
    result = run(pytester, "--vfio-examples", "10", "-rs")
    result.assert_outcomes(failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*CONTENTS not exercised: the subject maps no layout that gets that far"])


@needs_compiler
@pytest.mark.parametrize("processes", ["0", "2"])
def test_advice_is_shown_and_fails_nothing(pytester, processes):
    shutil.copy(SUBJECTS / "broken" / "charged_placeholder.c", pytester.path)
    shutil.copy(SUBJECTS / "broken" / "helper.h", pytester.path)
    result = run(pytester, "-n", processes, "--vfio-subject", "charged_placeholder.c", "--vfio-examples", "30")
    assert result.parseoutcomes() == {"passed": len(CLAUSES)}  # and no warnings
    result.stdout.fnmatch_lines(["*= vfio_verify advice =*", "vfio_device_mmap_dmabuf() violates UNCHARGED"])


# ---- --vfio-subject ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_subject_is_tested_where_there_are_no_test_files(pytester, own_temporary_directory, processes):
    arguments = ("--vfio-subject", "core", "--vfio-examples", "30", "--junitxml", "out.xml")
    result = run(pytester, "-n", processes, *arguments)
    assert result.ret == 0
    assert statuses(pytester.path / "out.xml") == dict.fromkeys(CLAUSES, "passed")
    assert list(own_temporary_directory.iterdir()) == []


def test_tests_of_a_subject_are_listed_and_chosen_like_others(pytester):
    pytester.makepyfile("def test_own(): pass")
    listed = run(pytester, "--vfio-subject", "core", "--co", "-q").outlines
    assert [line for line in listed if line.startswith("core::")] == [f"core::{name}" for name in CLAUSES]
    result = run(pytester, "--vfio-subject", "core", "--vfio-examples", "10", "-k", "own or SURVIVES")
    result.assert_outcomes(passed=2, deselected=len(CLAUSES) - 1)


@needs_compiler
def test_a_file_with_several_functions_needs_the_name_of_one(pytester):
    text = (EXAMPLE / HELPER).read_text()
    twice = text + text[text.index("bool map_dmabuf") :].replace("bool map_dmabuf", "bool other_dmabuf")
    (pytester.path / "two.c").write_text(twice)
    arguments = ("--vfio-subject", "two.c", "--vfio-examples", "10", "-k", "CONFINED")
    result = run(pytester, *arguments)
    result.assert_outcomes(failed=1, deselected=len(CLAUSES) - 1)
    result.stdout.fnmatch_lines(["vfio-verify: two.c holds 2 functions*"])
    assert "Traceback" not in result.stdout.str()
    run(pytester, *arguments, "--vfio-function", "other_dmabuf").assert_outcomes(
        passed=1, deselected=len(CLAUSES) - 1
    )  # fmt: skip


def test_a_subject_that_is_not_there_is_an_error_of_usage(pytester):
    result = run(pytester, "--vfio-subject", "missing.c")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --vfio-subject: there is no file missing.c"])


@pytest.mark.parametrize("option", [("--vfio-examples", "0"), ("--vfio-seed", "-1"), ("--vfio-seed", "4294967296")])
def test_numbers_out_of_range_are_errors_of_usage(pytester, option):
    assert run(pytester, "--vfio-subject", "core", *option).ret == pytest.ExitCode.USAGE_ERROR


# ---- vfio_case and vfio_run --------------------------------------------------------------------------------


def test_a_case_is_drawn_shrunk_and_printed_as_a_table(pytester):
    pytester.makepyfile(
        """
        from hypothesis import seed, settings

        class TestMine:
            @seed(1)
            @settings(max_examples=100, database=None)
            def test_few(self, vfio_case):
                assert len(vfio_case.iovec) < 3
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E       device 0    region 0, 0x1000 bytes",
            "E       block 0     device 0, region 0, 0x1000 bytes",
            "E       iovec         0  A          block 0                0x1000 bytes",
            "E                     1  A+0x1000   block 0                0x1000 bytes",
            "E                     2  A+0x2000   block 0                0x1000 bytes",
            "E       total_size  0x3000",
            "E       --case '{*}'",
        ]
    )


@needs_compiler
def test_a_run_says_what_is_violated_and_shows_it_on_the_smallest_case(pytester):
    shutil.copy(SUBJECTS / "broken" / "area_offset_ignored.c", pytester.path)
    shutil.copy(SUBJECTS / "broken" / "helper.h", pytester.path)
    pytester.makepyfile(
        """
        from hypothesis import seed, settings

        @seed(1)
        @settings(max_examples=1000, database=None)
        def test_mine(vfio_case, vfio_run):
            assert not vfio_run(vfio_case, "area_offset_ignored.c").violated
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    # The smallest region whose only area does not begin where it begins.
    result.stdout.fnmatch_lines(
        [
            "*<mapped, violates CONTENTS>*",
            "E       block 0     device 0, region 0 + 0x1000, 0x1000 bytes",
            "E       CONTENTS: *",
            "E          expected at A: device 0, region 0 + 0x1000",
            "E          seen     at A: device 0, region 0",
        ]
    )


def test_settings_examples_and_parameters_are_taken(pytester):
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import example, settings
        from vfio_verify.values.case import Case

        seen = {0: [], 1: []}
        EMPTY = Case((), (), (), 0)

        @pytest.mark.parametrize("number", [0, 1])
        @settings(max_examples=7, database=None)
        @example(vfio_case=EMPTY)
        def test_mine(vfio_case, number):
            seen[number].append(vfio_case)

        @pytest.mark.parametrize("number", [0, 1])
        def test_what_was_seen(number):
            assert seen[number][0] == EMPTY
            assert len(seen[number]) == 8
        """
    )
    run(pytester).assert_outcomes(passed=4)


def test_a_deadline_of_ones_own_is_kept(pytester):
    pytester.makepyfile(
        """
        import time
        from hypothesis import Phase, settings

        @settings(max_examples=3)
        def test_slow(vfio_case):
            time.sleep(0.25)

        @settings(deadline=20, phases=[Phase.generate])
        def test_too_slow(vfio_case):
            time.sleep(0.1)
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_too_slow*"])


def test_a_given_of_ones_own_is_left_alone(pytester):
    pytester.makepyfile(
        """
        from hypothesis import given, settings
        from vfio_verify.generate.strategies import cases

        @settings(max_examples=5)
        @given(vfio_case=cases(valid=True))
        def test_mine(vfio_case):
            assert vfio_case.iovec
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_a_fixture_cannot_ask_for_a_case(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def prepared(vfio_case):
            return vfio_case

        def test_mine(prepared):
            pass
        """
    )
    result = run(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*vfio_case is drawn for a test function: a fixture cannot ask for it"])


def test_a_run_without_a_subject_is_told(pytester):
    pytester.makepyfile(
        """
        from vfio_verify.values.case import Case

        def test_mine(vfio_run):
            vfio_run(Case((), (), (), 0))
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*vfio_run: no subject.*"])


def test_the_subject_of_the_command_line_is_what_is_run(pytester):
    pytester.makepyfile(
        """
        from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment

        CASE = Case((Device((Region(0, PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)

        def test_mine(vfio_run):
            assert vfio_run(CASE).mapped
            assert repr(vfio_run(CASE.with_faults(Fault("mmap", 2)))) == "<refused, violates nothing>"
        """
    )
    result = run(pytester, "--vfio-subject", "core", "-k", "mine")
    result.assert_outcomes(passed=1, deselected=len(CLAUSES))


def test_hypothesis_is_told_what_was_drawn_and_how_it_was_judged(pytester, monkeypatch):
    monkeypatch.setenv("HYPOTHESIS_EXPERIMENTAL_OBSERVABILITY", "1")
    pytester.makepyfile(
        """
        from hypothesis import settings

        @settings(max_examples=20)
        def test_mine(vfio_case, vfio_run):
            vfio_run(vfio_case, "core")
        """
    )
    result = run(pytester, "--hypothesis-show-statistics")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*%, exercised: SURVIVES"])
    (path,) = pytester.path.glob(".hypothesis/observed/*_testcases.jsonl")
    written = [json.loads(line) for line in path.read_text().splitlines()]
    # Hypothesis tells of examples too that it gave up as too large before they were drawn.
    written = [record for record in written if record["status"] != "gave_up"]
    assert len(written) == 20
    for record in written:
        count = len(record["arguments"]["vfio_case"]["iovec"])
        assert ("segments: none" in record["features"]) == (count == 0)
        assert ("segments: 2" in record["features"]) == (count == 2)
        assert "exercised: SURVIVES" in record["features"]
        assert record["metadata"]["notes"][0].lstrip().startswith("device 0")


# ---- runs that do not use it -----------------------------------------------------------------------------------


def test_a_run_that_does_not_use_it_does_not_notice_it(pytester):
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("modules:", *sorted(sys.modules))
        """
    )
    pytester.makepyfile("def test_own(): pass")
    with_it, without = (
        run_whole(pytester, "-W", "error", "--strict-markers", "--strict-config", "-s", *more)
        for more in ((), ("-p", "no:vfio_verify"))
    )
    loaded = []
    for result in (with_it, without):
        assert result.parseoutcomes() == {"passed": 1}
        loaded.append({name for line in result.outlines if line.startswith("modules:") for name in line.split()})
    assert loaded[0] - loaded[1] == {"vfio_verify", "vfio_verify.pytest_plugin"}


def test_loading_it_brings_no_module_that_pytest_has_not(tmp_path):
    """A limit in milliseconds would fail on a busy machine; that nothing is brought is what makes it cheap."""
    code = (
        "import sys, pytest, pathlib, types, uuid, tempfile, functools\n"
        "before = set(sys.modules)\n"
        "import vfio_verify.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["vfio_verify", "vfio_verify.pytest_plugin"]
