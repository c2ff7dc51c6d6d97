"""The command line as its users meet it: what it prints, what it exits with, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import commands
import pytest
from case_texts import from_json
from subject_files import DIRECTORY
from waiting import has_started, until

from vfio_verify.cli.main import cli
from vfio_verify.errors import InputError
from vfio_verify.values.conventions import conventions
from vfio_verify.values.spec import clauses

CORRECT = DIRECTORY / "correct" / "check_first.c"
NEWLINE = DIRECTORY / "broken" / "newline_in_message.c"
ENDLESS = "bool f(struct iovec *v, unsigned n, void **a, size_t t, Error **e) { for (;;) { } }\n"


class Outcome:
    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.status, self.out, self.err = process.returncode, process.stdout, process.stderr


def run_in(temporary: Path, *arguments: object, text: str = "", **more: str) -> Outcome:
    """Run the program with a private directory for temporary files, and see that it leaves nothing there."""
    environment = {**os.environ, "TMPDIR": str(temporary), "COLUMNS": "80", **more}
    process = commands.run(*arguments, cwd=Path.cwd(), text=text, env=environment)
    assert list(temporary.iterdir()) == []
    return Outcome(process)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Outcome]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    return partial(run_in, temporary)


def processes_that_name(text: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


# ---- verdicts -------------------------------------------------------------------------------------------------


UNCHARGED_SAID = (
    "advice: UNCHARGED: a dmabuf of 0x1000000000 bytes fails, because its placeholder is charged against memory\n"
)
"""Of this subject, on a machine with less memory."""


def test_a_conforming_subject_exits_with_0(run) -> None:
    outcome = run("check", CORRECT, "--examples", 40)
    assert outcome.status == 0
    assert outcome.err in ("", UNCHARGED_SAID)
    assert outcome.out.splitlines()[0].endswith("() conforms")


def test_the_core_conforms(tmp_path: Path) -> None:
    """In a process that Python starts for it."""
    outcome = Outcome(commands.run_anew("check", "core", "--examples", 100, cwd=tmp_path))
    assert outcome.status == 0, outcome.out
    assert outcome.out.startswith("core conforms\n")


@pytest.fixture(scope="module")
def violating(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A check that finds something."""
    return run_in(tmp_path_factory.mktemp("violating"), "check", NEWLINE, "--examples", 40)


def test_a_violating_subject_exits_with_1_and_the_verdict_comes_first(violating: Outcome) -> None:
    assert violating.status == 1
    assert re.fullmatch(r"\w+\(\) violates 1 of \d+ clauses", violating.out.splitlines()[0])
    assert "ERROR_SET: the error's message ends in a newline" in violating.out
    assert "found: ERROR_SET" in violating.err


def test_the_printed_line_reproduces_the_violation(run, violating: Outcome) -> None:
    line = next(line for line in violating.out.splitlines() if "--case" in line)
    case = re.search(r"--case '(.*)'", line)
    assert case is not None
    again = run("check", NEWLINE, "--case", case[1])
    assert again.status == 1
    assert "ERROR_SET: the error's message ends in a newline" in again.out


@pytest.mark.usefixtures("steady_huge_pages")
def test_the_same_seed_gives_the_same_report_with_any_number_of_jobs(tmp_path: Path) -> None:
    """And with another seed for Python's hashes."""
    arguments = ("check", NEWLINE, "--examples", 120, "--seed", 5, "--json", "-")
    reports = [commands.run_anew(*arguments, "--jobs", jobs, cwd=tmp_path) for jobs in (1, 2)]
    assert reports[0].stdout == reports[1].stdout
    assert reports[0].returncode == 1


def test_the_json_report_has_what_the_contract_says(run, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    run("check", NEWLINE, "--examples", 10, "--seed", 3, "--json", file)
    report = json.loads(file.read_bytes())
    assert report["schema"] == "vfio-verify/report@1"
    assert (report["verdict"], report["examples"], report["seed"]) == ("violates", 10, 3)
    assert [entry["id"] for entry in report["clauses"]] == list(clauses())
    by_id = {entry["id"]: entry for entry in report["clauses"]}
    assert by_id["ERROR_SET"]["status"] == "violated"
    assert by_id["CONTENTS"]["status"] == "holds"
    (violation,) = report["violations"]
    assert violation["clause"] == "ERROR_SET"
    case = from_json(json.dumps(violation["case"]))
    assert violation["case"]["schema"] == "vfio-verify/case@1"
    assert len(case.iovec) <= 1
    assert {"iovec", "total_size", "devices", "ram_blocks", "fault_plan"} <= set(violation["case"])
    assert violation["evidence"]["seen"].endswith("\\n'")


def test_a_subject_comes_from_standard_input_too(run) -> None:
    outcome = run("check", "-", "--examples", 10, text=CORRECT.read_text())
    assert outcome.status == 0, outcome.err


def test_what_is_piped_is_plain_and_80_columns_wide(violating: Outcome) -> None:
    assert "\x1b" not in violating.out
    lines = [line for line in violating.out.splitlines() if "--case" not in line]
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert violating.out.isascii()


def test_colour_obeys_no_color(run) -> None:
    assert "\x1b[" in run("spec", "CONTENTS", FORCE_COLOR="1").out
    assert "\x1b[3" not in run("spec", "CONTENTS", FORCE_COLOR="1", NO_COLOR="1").out


def test_the_spec_is_printed_whole_and_by_clause(run) -> None:
    whole = run("spec").out
    assert all(name in whole for name in clauses())
    one = run("spec", "contents")
    assert one.out.startswith("CONTENTS  stated\n")
    assert run("spec", "nonsense").status == 2
    assert [entry["id"] for entry in json.loads(run("spec", "--json").out)] == list(clauses())


# ---- input that cannot be used ------------------------------------------------------------------------------------


def refused(outcome: Outcome, *words: str) -> None:
    assert outcome.status == 2, outcome.out + outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


def test_a_missing_file_is_told_by_name(run) -> None:
    refused(run("check", "no-such-file.c"), "no-such-file.c")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("empty",)),
        (b"\x7fELF\0\0\0\0", ("binary",)),
        (b"int main(void) { return 0; }\n", ("main", "--function")),
        (b"{}", ("diff",)),
    ],
    ids=["empty", "binary", "no such function", "JSON without a diff"],
)
def test_an_unusable_file_is_refused_with_one_message(
    run, tmp_path: Path, content: bytes, words: tuple[str, ...]
) -> None:
    file = tmp_path / "input"
    file.write_bytes(content)
    refused(run("check", file), *words)


def test_a_compile_error_is_shown_in_the_users_file_and_line(run, tmp_path: Path) -> None:
    file = tmp_path / "helper.c"
    file.write_text("/* one */\n/* two */\n" + ENDLESS.replace("for (;;) { }", "return 1 +;"))
    refused(run("check", file), "helper.c:3")


def test_a_name_that_the_world_does_not_know_is_told(run, tmp_path: Path) -> None:
    file = tmp_path / "helper.c"
    file.write_text(ENDLESS.replace("for (;;) { }", "return vfio_frobnicate(v);"))
    refused(run("check", file), "vfio_frobnicate", "helper.c:1")


def test_a_missing_compiler_is_told_with_the_line_that_installs_one(run) -> None:
    refused(run("check", CORRECT, PATH="/nonexistent", CC=""), "apt-get install")


@pytest.mark.parametrize("case", ["{", "{}", '{"schema":"vfio-verify/case@2"}', "no-such-case.json"])
def test_an_unusable_case_is_refused(run, case: str) -> None:
    refused(run("check", "core", "--case", case), "case")


def test_a_report_that_cannot_be_written_is_refused_before_the_work(run, tmp_path: Path) -> None:
    refused(run("check", "core", "--json", tmp_path / "no" / "such" / "report.json"), "report.json")


def test_a_wrong_option_exits_with_2(run) -> None:
    refused(run("check", "core", "--examples", "0"))
    refused(run("check"))


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_comes_at_once_since_it_reads_nothing_that_only_a_run_needs(command: str) -> None:
    code = """
import atexit, sys
before = set(sys.modules)  # of coverage, say
from vfio_verify.cli.main import main
atexit.register(lambda: print(*sys.modules.keys() - before))
main()
"""
    words = [*command.split(), "--help"]
    out = subprocess.run(
        [sys.executable, "-P", "-c", code, *words], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert out.startswith("Usage: ")
    modules = set(out.splitlines()[-1].split())
    assert "vfio_verify.cli.main" in modules
    dear = {"hypothesis", "rich", "tree_sitter", "multiprocessing", "concurrent", "subprocess", "logging", "dask"}
    assert not modules & {
        *dear,
        "vfio_verify.campaign.check",
        "vfio_verify.campaign.shard",
        "vfio_verify.values.case",
        "vfio_verify.worker.worker",
    }


def test_a_shard_is_run_without_hypothesis() -> None:
    """Which takes longer to be read than a small check to be run."""
    code = """
import sys
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.shard import run_shard
from vfio_verify.campaign.shards import shards
from vfio_verify.subject.subject import open_subject
options = Options(examples=10)
with open_subject("core", None, options.parts) as subject:
    print(run_shard(subject, options, next(shards(options))).tally.layouts)
print("hypothesis" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["10", "False"]


def test_without_a_directory_for_temporary_files_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(InputError, match="TMPDIR"):
        cli.main(["check", "core", "--examples", "1"], standalone_mode=False)


@pytest.mark.parametrize("words", [["spec"], ["schema", "case"], ["check", "core", "--examples", "2", "--json", "-"]])
def test_a_reader_that_goes_away_is_no_verdict(words: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "vfio_verify", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")


# ---- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_everything_and_prints_what_was_found(tmp_path: Path, jobs: int) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    arguments = ["check", str(NEWLINE), "--examples", "1000000", "--jobs", str(jobs)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vfio_verify", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("found: ERROR_SET")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "ERROR_SET" in out
    assert "interrupted" in out
    assert list(temporary.iterdir()) == []
    end = time.monotonic() + 5
    while processes_that_name(str(temporary)) and time.monotonic() < end:
        time.sleep(0.05)
    assert processes_that_name(str(temporary)) == []


@pytest.mark.parametrize("call", ["-fsyntax-only", "-c", "-shared"])
def test_ctrl_c_ends_a_compiler_that_does_not_end(tmp_path: Path, call: str) -> None:
    wrapper = tmp_path / "cc"
    wrapper.write_text(f'#!/bin/sh\ncase " $* " in *" {call} "*) sleep 300;; esac\nexec cc "$@"\n')
    wrapper.chmod(0o755)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vfio_verify", "check", str(CORRECT)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CC": str(wrapper), "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    until("the compiler hangs", lambda: has_started(process.pid, "300"))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert err == "\ninterrupted\n"
    # A shell has 130 for both. Python ends by the signal if that came in an exec(), as in an import.
    assert process.returncode in (130, -signal.SIGINT)
    assert list(temporary.iterdir()) == []
    assert processes_that_name(str(wrapper)) == []


# ---- another world than QEMU's ----------------------------------------------------------------------------------


ASSUMING = DIRECTORY / "assuming" / "info_taken_for_bool.c"
INFO = "vfio_device_get_region_info=true"


def test_the_second_part_is_told_below_the_first_and_can_be_made_a_check_of_its_own(run, tmp_path: Path) -> None:
    outcome = run(
        "check", ASSUMING, "--examples", "60", "--json", tmp_path / "both.json", "--corpus", tmp_path / "kept"
    )
    assert outcome.status == 1
    first, _, second = outcome.out.partition("\nIf vfio_device_get_region_info() returned true on success, ")
    assert "CONFINED: mmap" not in first
    assert "as this code takes\nit: 2 more violations." in second
    assert f"assuming {INFO}: CONFINED" in outcome.err
    numbers = [int(n) for n in re.findall(r"^(\d+)\. [A-Z_]+", outcome.out, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    told = json.loads((tmp_path / "both.json").read_text())
    assert len(list((tmp_path / "kept").iterdir())) == len(numbers)
    alone = run("check", ASSUMING, "--examples", "60", "--assume", INFO, "--json", tmp_path / "alone.json")
    assert alone.status == 1
    assert json.loads((tmp_path / "alone.json").read_text()) == told["behind"]
    assert alone.out.startswith("vfio_device_mmap_dmabuf() violates 2 of 18 clauses, under an assumption\n" + INFO)
    assert "If vfio_device" not in alone.out
    case = next(line for line in second.splitlines() if "--case" in line).partition("--case ")[2].strip("'")
    again = run("check", ASSUMING, "--case", case)
    assert again.status == 1
    assert again.out.splitlines()[:2] == alone.out.splitlines()[:2]


def test_a_subject_that_is_right_but_for_its_first_fault_conforms_under_the_assumption(run) -> None:
    subject = DIRECTORY / "assuming" / "lookup_taken_for_errno.c"
    outcome = run("check", subject, "--examples", "40", "--assume", "vfio_device_lookup=0")
    assert outcome.status == 0
    assert outcome.out.startswith("vfio_device_mmap_dmabuf() conforms, under an assumption\nvfio_device_lookup=0: ")


def test_an_unknown_convention_is_refused_with_a_list_of_those_that_there_are(run) -> None:
    for command in ("check", "fuzz"):
        refused(run(command, "core", "--assume", "vfio_device_lookup=7"), "vfio_device_lookup=7", *conventions())


def test_the_conventions_are_printed_in_words_and_as_json(run) -> None:
    printed = run("spec", "--conventions").out
    assert [line for line in printed.splitlines() if line and line[0] != " "] == list(conventions())
    told = json.loads(run("spec", "--conventions", "--json").out)
    assert [f"{one['name']}={one['value']}" for one in told] == list(conventions())
    refused(run("spec", "CONTENTS", "--conventions"), "without a clause")
