"""Reports where the user wants them: several forms from one run, and what a job on GitHub Actions sees of it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import commands
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.panel import Panel
from rich.text import Text
from subject_files import DIRECTORY

from vfio_verify.cli.common import console
from vfio_verify.report.outlet import Outlet, harmless

NEWLINE = DIRECTORY / "broken" / "newline_in_message.c"
# A command of GitHub's at the start of a line, and bytes that neither XML nor a log can hold.
HOSTILE = """
#include "qemu/osdep.h"
bool evil_mmap_dmabuf(struct iovec *iov, unsigned int n, void **addr, size_t total_size, Error **errp)
{
    error_setg(errp, "\\n::error file=README.md::hacked \\x01\\x1b[31m\\xff ]]> ::set-output name=a::b\\r");
    return false;
}
"""


class Outcome:
    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.err = process.returncode, process.stdout, process.stderr


@pytest.fixture
def run(tmp_path: Path):
    def run(*arguments: object, cwd: Path = tmp_path, text: str = "", **more: str) -> Outcome:
        environment = {**os.environ, "COLUMNS": "80", **more}
        return Outcome(commands.run("check", *arguments, cwd=cwd, text=text, env=environment))

    return run


def test_one_run_gives_every_form(run, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.json", "r.xml", "r.sarif")]
    outcome = run(NEWLINE, "--examples", 10, "--json", files[0], "--junit", files[1], "--sarif", files[2])
    assert outcome.status == 1
    assert "violates 1 of" in outcome.out.splitlines()[0]
    assert json.loads(files[0].read_bytes())["verdict"] == "violates"
    suite = ElementTree.parse(files[1]).getroot()[0]
    assert suite.get("failures") == "1"
    assert float(str(suite.get("time"))) > 0
    (result,) = json.loads(files[2].read_bytes())["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    source = NEWLINE.read_text().splitlines()
    assert "error_setg(errp, " in source[place["region"]["startLine"] - 1]
    head = result["relatedLocations"][0]["physicalLocation"]
    assert "vfio_device_mmap_dmabuf(" in source[head["region"]["startLine"] - 1]
    assert f"{NEWLINE}:{place['region']['startLine']}: " in files[1].read_text()


@pytest.mark.parametrize("form", ["--json", "--junit", "--sarif"])
def test_standard_output_can_be_any_one_form_and_nothing_else(run, form: str) -> None:
    outcome = run("core", "--examples", 5, form, "-", GITHUB_ACTIONS="true")
    assert outcome.status == 0
    if form == "--junit":
        assert ElementTree.fromstring(outcome.out)[0].get("failures") == "0"
    else:
        assert isinstance(json.loads(outcome.out), dict)


def test_what_cannot_be_written_is_refused_before_the_run(run, tmp_path: Path) -> None:
    both = tmp_path / "both"
    refused = (
        (["--junit", "-", "--sarif", "-"], "only one report can go to standard output (-)"),
        (["--junit", both, "--json", tmp_path / "." / "both"], "two reports cannot go to the same file"),
        (["--sarif", tmp_path / "none" / "r"], "cannot write the report to"),
        (["--junit", tmp_path], "cannot write the report to"),
    )
    for arguments, message in refused:
        outcome = run("core", *arguments)
        assert (outcome.status, outcome.out) == (2, "")
        assert message in outcome.err
    assert not both.exists()


def test_two_reports_may_go_nowhere(run) -> None:
    assert run("core", "--examples", 5, "--json", os.devnull, "--sarif", os.devnull).status == 0


def test_a_file_that_fails_late_costs_no_other_form(run, tmp_path: Path) -> None:
    outcome = run(NEWLINE, "--examples", 5, "--json", "/dev/full", "--sarif", tmp_path / "r.sarif")
    assert outcome.status == 3
    assert "cannot write the report to /dev/full: No space left on device" in outcome.err
    assert "violates" in outcome.out
    assert (tmp_path / "r.sarif").stat().st_size > 0


def test_an_interrupted_check_writes_every_form(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("r.json", "r.xml", "r.sarif")]
    arguments = ["check", str(NEWLINE), "--examples", "1000000"]
    for form, file in zip(("--json", "--junit", "--sarif"), files, strict=True):
        arguments += [form, str(file)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vfio_verify", *arguments],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"found: ")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(files[0].read_bytes())["interrupted"] is True
    errors = [
        case.get("name") for case in ElementTree.parse(files[1]).iter("testcase") if case.find("error") is not None
    ]
    assert errors[-1] == "the whole check"
    assert errors[:-1]  # and each clause that was seen violated, and not yet again
    (invocation,) = json.loads(files[2].read_bytes())["runs"][0]["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 130)


# ---- GitHub Actions -----------------------------------------------------------------------------------------------


def test_a_job_sees_the_violations_after_the_report_and_in_its_summary(run, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "helper.h").write_bytes((NEWLINE.parent / "helper.h").read_bytes())
    (tmp_path / "src" / "a,b.c").write_bytes(NEWLINE.read_bytes())
    page = tmp_path / "summary.md"
    page.write_text("# Before\n")
    job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page), "GITHUB_WORKSPACE": str(tmp_path)}
    outcome = run("a,b.c", "--examples", 10, cwd=tmp_path / "src", **job)
    assert outcome.status == 1
    lines = outcome.out.splitlines()
    (command,) = [line for line in lines if line.startswith("::error")]
    assert lines[-1] == command
    assert command.startswith("::error file=src/a%2Cb.c,line=")
    assert ",title=vfio-verify%3A ERROR_SET::the error's message ends in a newline%0A" in command
    assert page.read_text().startswith("# Before\n## vfio")
    assert "ERROR\\_SET" in page.read_text()


def test_elsewhere_there_are_none_unless_asked_for(run) -> None:
    assert "::" not in run(NEWLINE, "--examples", 5).out
    assert "::error" in run(NEWLINE, "--examples", 5, "--annotate").out
    assert "::" not in run(NEWLINE, "--examples", 5, "--no-annotate", GITHUB_ACTIONS="true").out


def test_beside_a_report_on_standard_output_they_go_to_standard_error(run) -> None:
    outcome = run(NEWLINE, "--examples", 5, "--json", "-", GITHUB_ACTIONS="true")
    assert json.loads(outcome.out)["verdict"] == "violates"
    assert [line[:12] for line in outcome.err.splitlines() if line.startswith("::")] == ["::error file"]


def obeyed(output: str) -> list[str]:
    """The lines that a runner takes for commands: it skips blanks before them, and minds stop-commands."""
    found, token = [], None
    for line in map(str.lstrip, output.splitlines()):
        if token is not None:
            token = None if line == f"::{token}::" else token
        elif line.startswith("::stop-commands::"):
            token = line.removeprefix("::stop-commands::")
        elif line.startswith("::"):
            found.append(line)
    assert token is None
    return found


def test_a_subject_cannot_make_a_job_obey_it(run, tmp_path: Path) -> None:
    (tmp_path / "evil.c").write_text(HOSTILE)
    outcome = run("evil.c", "--examples", 5, "--junit", "r.xml", "--sarif", "r.sarif", GITHUB_ACTIONS="true")
    assert outcome.status == 1
    assert "hacked" in outcome.out
    commands = obeyed(outcome.out) + obeyed(outcome.err)
    assert commands
    assert all(line.startswith(("::error file=evil.c,", "::notice file=evil.c,")) for line in commands)
    assert "\\x1b[31m" in ElementTree.tostring(ElementTree.parse(tmp_path / "r.xml").getroot(), encoding="unicode")
    assert "hacked" in json.loads((tmp_path / "r.sarif").read_bytes())["runs"][0]["results"][0]["message"]["text"]


def test_a_patch_s_title_is_no_command_either(run) -> None:
    """A title begins a line of the report."""
    body = "".join(f"+{line}\n" for line in HOSTILE.strip().splitlines())
    count = body.count("\n")
    mail = (
        "From: a <a@example.org>\nSubject: ::error file=x.c::hacked\n\n---\n"
        "diff --git a/hw/x.c b/hw/x.c\nnew file mode 100644\n"
        f"--- /dev/null\n+++ b/hw/x.c\n@@ -0,0 +1,{count} @@\n{body}"
    )
    outcome = run("-", "--examples", 5, text=mail, GITHUB_ACTIONS="true")
    assert "\n\\::error file=x.c::hacked\n" in outcome.out
    assert all(line.startswith(("::error file=hw/x.c,", "::notice file=hw/x.c,")) for line in obeyed(outcome.out))


def test_what_is_refused_is_quoted_and_not_obeyed(run, tmp_path: Path) -> None:
    """Exit status 2 quotes the compiler, and so the names that a subject gives to its lines."""
    broken = HOSTILE.replace(
        "    error_setg", '#line 7 "\\n::error::x\\r\\n ##[add-mask]y\\x1b[31m\\x9b31m"\n    nothing_like_it'
    )
    names = "x\n::error file=README.md::hacked\n##[group]\x1b[2J\u202e.c"
    for name, text in (("evil.c", broken), (names, "int"), (names, HOSTILE.replace("return", "return ::error::"))):
        (tmp_path / name).write_text(text)
        outcome = run(name, "--examples", 5, GITHUB_ACTIONS="true")
        assert outcome.status == 2
        assert not obeyed(outcome.out) + obeyed(outcome.err)
        assert "##[" not in outcome.out + outcome.err
        assert not set("\x1b\x9b\r\u202e") & set(outcome.out + outcome.err)


FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udc9f]")
CHARACTERS = "\n\r\t :#[]%\x1b\x9b\x07\x00\u202e\u2066\u200f\u2028\x85\ud800\udc9b\ufeff"
WORDS = (
    *("::error::x", "##[group]", "##vso[task]", "::", "##", "%0A", "\x1b[2J", "word"),
    *("\xa0::stop-commands::t", "\u3000::set-env name=PATH::/"),
)
PARTS = st.sampled_from([*CHARACTERS, *WORDS])


@settings(max_examples=300)
@given(pieces=st.lists(st.lists(PARTS, max_size=12).map("".join), max_size=4))
def test_no_text_is_obeyed_by_a_terminal_or_a_runner(pieces: list[str]) -> None:
    written = io.StringIO()
    outlet = Outlet(written)
    for piece in pieces:
        print(piece, file=outlet)
    text = written.getvalue()
    assert not FORBIDDEN.search(text)
    assert not obeyed(text)
    assert not re.search(r"##\w*\[", text)
    assert all(ordinary in text for piece in pieces for ordinary in re.findall("word", piece))
    assert text == "".join(harmless(f"{piece}\n") for piece in pieces)


@settings(max_examples=100)
@given(text=st.lists(PARTS, max_size=12).map("".join))
def test_nor_where_rich_prints_it(text: str) -> None:
    outlet = Outlet(io.StringIO())
    shown = console()
    shown.file = outlet.rich_proxied_file
    for what in (text, Text(text, style="bold"), Panel(text)):
        shown.print(what)
    assert not FORBIDDEN.search(outlet.getvalue())
    assert not obeyed(outlet.getvalue())


def test_a_summary_page_that_cannot_be_written_costs_no_verdict(run) -> None:
    outcome = run("core", "--examples", 5, GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="/dev/full")
    assert outcome.status == 0
    assert "cannot write the job's summary to /dev/full" in outcome.err
