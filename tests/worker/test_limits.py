"""Names that are no text, and machines that start no more processes or threads: told as what they are."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from subject_files import DIRECTORY, needs_compiler

from vfio_verify import errors
from vfio_verify.campaign import replay
from vfio_verify.campaign.check import check
from vfio_verify.campaign.options import Options
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import Entry
from vfio_verify.errors import HarnessError, UnrealError
from vfio_verify.generate.concurrent import concurrent_cases
from vfio_verify.subject.subject import CORE, Subject
from vfio_verify.values.case import PAGE, Case, Device, RamBlock, Region, Segment
from vfio_verify.values.markup import encodable
from vfio_verify.worker import worker

CASE = Case(
    devices=(Device(regions=(Region(index=0, size=4 * PAGE),)),),
    ram_blocks=(RamBlock(0, 0, 0),),
    iovec=(Segment(0, 0, PAGE), Segment(0, PAGE, PAGE)),
    total_size=2 * PAGE,
)
COMMAND = [sys.executable, "-P", "-m", "vfio_verify"]
ODD = os.fsdecode(b"hel\xffper.c")
SHOWN = r"hel\udcffper.c"

needs_another_user = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to be a user with few processes"
)


def run(*arguments: object, cwd: Path, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[bytes]:
    command = [*before, *COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=100, check=False)


# ---- a name that is no UTF-8 ----------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    shutil.copy(DIRECTORY / "broken" / "never_unmapped.c", tmp_path / ODD)
    shutil.copy(DIRECTORY / "broken" / "helper.h", tmp_path)
    return tmp_path


@needs_compiler
@pytest.mark.parametrize("encoding", [None, "utf-8:strict", "ascii"])
def test_a_file_whose_name_is_no_text_is_checked_and_shown_in_every_form(odd, monkeypatch, encoding):
    if encoding:
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
    forms = ("--json", "report.json", "--junit", "report.xml", "--sarif", "report.sarif", "--corpus", "kept")
    checked = run("check", ODD, "--examples", 20, "--jobs", 1, *forms, cwd=odd)
    assert checked.returncode == 1, checked.stderr
    # What is to be pasted into a shell is the name itself.
    assert b"vfio-verify check 'hel\xffper.c' " in checked.stdout
    subject = json.loads((odd / "report.json").read_bytes())["subject"]
    assert (subject["name"], subject["place"]) == (SHOWN, f"{SHOWN}:5")
    suite = ElementTree.parse(odd / "report.xml").getroot()[0]
    assert suite.attrib["name"].startswith(f"vfio-verify {SHOWN} ")
    found = json.loads((odd / "report.sarif").read_bytes())["runs"][0]["results"][0]
    # A URI has a form for any byte.
    # The error is set by a line of helper.h; the function is in the file.
    assert found["relatedLocations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "hel%FFper.c"
    (stored,) = DirectoryCorpus(odd / "kept").load()
    assert stored.entry.origin is not None
    assert stored.entry.origin.subject == SHOWN


@needs_compiler
def test_a_file_whose_name_is_no_text_is_searched_and_replayed(odd):
    searched = run("fuzz", ODD, "--examples", 10, "--jobs", 1, "--corpus", "kept", "--json", "-", cwd=odd)
    assert searched.returncode == 1, searched.stderr
    assert json.loads(searched.stdout)["report"]["subject"]["name"] == SHOWN
    (stored,) = (one for one in DirectoryCorpus(odd / "kept").load() if one.entry.origin is not None)
    Path(stored.place).rename(odd / "kept" / os.fsdecode(b"\xfe.json"))
    replayed = run("replay", "kept", "--subject", ODD, "--json", "-", cwd=odd)
    assert replayed.returncode == 1, replayed.stderr
    outcome = json.loads(replayed.stdout)
    assert outcome["subject"] == SHOWN
    assert r"kept/\udcfe.json" in [case["name"] for case in outcome["cases"]]


def test_only_what_has_no_place_in_json_is_escaped():
    for text in ("", "a\tb\n\x07", "\u202e\ufeff\U0001f600", "\\udcff"):
        assert encodable(text) == text
    assert encodable("a\udcffb\ud800") == r"a\udcffb\ud800"


# ---- no more processes ----------------------------------------------------------------------------------------


def limited(processes: int) -> tuple[str, ...]:
    """As a user of no other process, who may have so many, threads included; who may read all that root may.

    Another user each time: one that has ended still counts until it is waited for, and where the first process of the
    machine waits for none, as in a container, those that multiprocessing leaves to it count for ever.
    """
    user = str(100_000 + secrets.randbelow(1 << 30))
    as_user = ("--reuid", user, "--regid", user, "--clear-groups")
    reading = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")
    return ("setpriv", *as_user, *reading, "prlimit", f"--nproc={processes}")


@needs_another_user
@needs_compiler
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "core", "--examples", 200, "--jobs", 2),
        ("check", "core", "--examples", 20, "--jobs", 1),
        ("fuzz", "core", "--time", 2, "--jobs", 2),
        ("replay", "kept", "--jobs", 1),
    ],
    ids=["check", "check with one job", "fuzz", "replay"],
)
def test_where_no_process_can_be_started_that_is_said_and_nothing_is_judged(tmp_path, arguments, processes):
    for case in concurrent_cases(CASE):
        DirectoryCorpus(tmp_path / "kept").store(Entry(case))
    tmp_path.chmod(0o777)
    ended = run(*arguments, cwd=tmp_path, before=limited(processes))
    assert (ended.returncode, ended.stdout) == (3, b"")
    assert b"internal error" not in ended.stderr
    assert any(why in ended.stderr for why in (b"Resource temporarily unavailable", b"no more threads")), ended.stderr
    assert ended.stderr.count(b"\n") == 1
    if processes == 1:
        assert ended.stderr.startswith(b"vfio-verify: cannot start ")


@needs_another_user
@needs_compiler
def test_where_the_compiler_cannot_be_started_that_is_said(tmp_path):
    tmp_path.chmod(0o777)
    source = DIRECTORY / "correct" / "adjacent_entries_joined.c"
    ended = run("check", source, "--examples", 10, "--jobs", 1, cwd=tmp_path, before=limited(1))
    assert ended.returncode == 3
    assert ended.stderr == b"vfio-verify: cannot start the compiler: no more threads may be started\n"


@needs_another_user
def test_a_case_for_whose_threads_there_is_no_room_is_not_applicable(tmp_path):
    for case in concurrent_cases(CASE):
        DirectoryCorpus(tmp_path / "kept").store(Entry(case))
    tmp_path.chmod(0o777)
    ended = run("replay", "kept", "--jobs", 1, cwd=tmp_path, before=limited(6))  # enough for the harness
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"not applicable -               kept/case-" in ended.stdout
    assert b"the world cannot make the case real: Resource temporarily\n" in ended.stdout


@pytest.mark.parametrize("error", [BlockingIOError(11, "no more"), BrokenPipeError(32, "no more")])
def test_a_pool_that_cannot_start_is_an_error_of_the_harness(monkeypatch, error):
    def refuse(*_arguments: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(ProcessPoolExecutor, "submit", refuse)
    with pytest.raises(HarnessError, match="cannot start processes for the work: no more"):
        check(CORE, Options(examples=60, jobs=2))


def test_only_threads_that_cannot_be_started_are_an_error_of_the_harness():
    with pytest.raises(HarnessError, match="cannot start it: no more threads"), errors.starting("it"):
        raise RuntimeError("can't start new thread")
    with pytest.raises(RuntimeError, match="another"), errors.starting("it"):
        raise RuntimeError("another")


# ---- what this machine cannot make real -----------------------------------------------------------------------


def refusing(when: Callable[[worker.Worker], bool]) -> Callable[..., Any]:
    real = worker.Worker.run

    def run_or_refuse(self: worker.Worker, *arguments: Any, **named: Any) -> Any:
        if when(self):
            raise UnrealError("the world cannot make the case real: No space left on device")
        return real(self, *arguments, **named)

    return run_or_refuse


def test_a_case_that_no_subject_can_be_given_here_is_not_applicable(monkeypatch):
    monkeypatch.setattr(worker.Worker, "run", refusing(lambda _: True))
    (outcome,) = replay.replay(CORE, [Entry(CASE)])
    assert (outcome.status, outcome.fails) == ("not applicable", False)
    assert outcome.reason == "the world cannot make the case real: No space left on device"


@needs_compiler
def test_a_subject_that_alone_says_so_is_not_believed(monkeypatch, built):
    """It shares a process with what would refuse."""
    monkeypatch.setattr(worker.Worker, "run", refusing(lambda one: one._library is not None))
    with pytest.raises(UnrealError):
        list(replay.replay(built, [Entry(CASE)]))


@pytest.fixture
def built(tmp_path: Path) -> Any:
    from vfio_verify.subject.subject import open_subject

    with open_subject(str(DIRECTORY / "broken" / "never_unmapped.c")) as subject:
        assert isinstance(subject, Subject)
        yield subject
