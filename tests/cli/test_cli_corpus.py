"""The commands on kept cases as their users meet them: check --corpus, replay, show, shrink, merge, schema."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import commands
import pytest
from msgspec.structs import replace
from subject_files import DIRECTORY

from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import Entry, Origin, read_entry
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment

NEWLINE = DIRECTORY / "broken" / "newline_in_message.c"
CASE = Case((Device((Region(0, 8 * PAGE),)),), (RamBlock(0, 0, 0),), (Segment(0, 0, PAGE),), PAGE)
FAILING = CASE.with_faults(Fault("mmap", 2, "ENOMEM"))
ENDLESS = "bool f(struct iovec *v, unsigned n, void **a, size_t t, Error **e) { for (;;) { } }\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "temporary").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "COLUMNS": "80"}


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]):
    """Runs the program in a directory of its own, and sees that it leaves nothing behind."""

    def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
        process = commands.run(*arguments, cwd=tmp_path, text=text, env=environment)
        assert list((tmp_path / "temporary").iterdir()) == []
        return process

    return run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Cases that a subject fails, passes, and cannot be asked."""
    place = tmp_path / "corpus"
    for case, clause in ((FAILING, "ERROR_SET"), (CASE, "CONTENTS"), (CASE, "NO_SUCH"), (CASE, None)):
        DirectoryCorpus(place).store(Entry(case, None if clause is None else Origin("x.c", clause, "c")))
    return place


# ---- found, kept, replayed, made smaller -----------------------------------------------------------------------------


def test_what_a_check_finds_is_kept_and_replayed(run, tmp_path):
    """ERROR_SET"""
    checked = run("check", NEWLINE, "--examples", 10, "--seed", 3, "--corpus", tmp_path / "kept")
    assert checked.returncode == 1
    assert "kept: 1 of 1 violations are new" in checked.stderr
    (stored,) = DirectoryCorpus(tmp_path / "kept").load()
    assert stored.entry.origin is not None
    assert (stored.entry.clause, stored.entry.origin.seed) == ("ERROR_SET", 3)
    assert stored.entry.origin.subject == str(NEWLINE)
    again = run("check", NEWLINE, "--examples", 10, "--seed", 3, "--corpus", tmp_path / "kept")
    assert "kept: 0 of 1 violations are new" in again.stderr
    assert run("replay", tmp_path / "kept", "--subject", NEWLINE).returncode == 1
    assert run("replay", tmp_path / "kept").returncode == 0


def test_a_replay_shows_what_fails_and_counts_the_rest(run, corpus):
    replayed = run("replay", corpus, "--subject", NEWLINE)
    assert (replayed.returncode, replayed.stderr) == (1, "")
    lines = replayed.stdout.splitlines()
    assert lines[0].startswith("still failing  ERROR_SET")
    assert "ERROR_SET: the error's message ends in a newline" in lines[1]
    assert lines[-1].endswith("4 cases: 1 still failing, 1 fixed, 1 passes, 1 not applicable")
    assert "CONTENTS" not in replayed.stdout
    assert "there is no clause NO_SUCH" in replayed.stdout
    assert "fixed          CONTENTS" in run("replay", corpus, "--subject", NEWLINE, "--all").stdout
    core = run("replay", corpus)
    assert (core.returncode, core.stdout.splitlines()[-1]) == (
        0,
        "core: 4 cases: 2 fixed, 1 passes, 1 not applicable",
    )


def test_a_replay_is_written_as_json(run, corpus, tmp_path):
    assert run("replay", corpus, "--subject", NEWLINE, "--json", tmp_path / "out.json").returncode == 1
    written = json.loads((tmp_path / "out.json").read_bytes())
    assert written["schema"] == "vfio-verify/replay@1"
    assert (written["fails"], written["counts"]["still failing"]) == (True, 1)
    assert {case["status"] for case in written["cases"]} == {"still failing", "fixed", "passes", "not applicable"}
    printed = run("replay", corpus, "--subject", NEWLINE, "--json", "-")
    assert json.loads(printed.stdout) == written


def test_one_file_and_what_a_report_prints_are_corpora_too(run, tmp_path):
    (tmp_path / "bare.json").write_bytes(FAILING.to_json())
    assert run("replay", tmp_path / "bare.json", "--subject", NEWLINE).returncode == 1
    assert run("replay", tmp_path / "bare.json").returncode == 0


def test_a_case_in_several_corpora_is_replayed_once(run, corpus, tmp_path):
    assert "4 cases" in run("replay", corpus, corpus, next(iter(DirectoryCorpus(corpus).load())).place).stdout


def test_shrink_prints_an_entry_and_says_what_it_did(run, tmp_path):
    wide = replace(FAILING, iovec=(Segment(0, 0, PAGE),) * 4, total_size=4 * PAGE)
    file = tmp_path / "wide.json"
    file.write_bytes(Entry(wide, Origin("x.c", "ERROR_SET")).to_json())
    shrunk = run("shrink", file, "--subject", NEWLINE)
    assert shrunk.returncode == 0, shrunk.stderr
    entry = read_entry(shrunk.stdout.encode(), "x")
    assert (len(entry.case.iovec), entry.clause) == (1, "ERROR_SET")
    assert shrunk.stderr.startswith("ERROR_SET: smaller, ")
    again = run("shrink", "-", "--subject", NEWLINE, "--out", tmp_path / "out.json", text=shrunk.stdout)
    assert (again.returncode, again.stdout) == (0, "")
    assert "no smaller case found" in again.stderr
    assert read_entry((tmp_path / "out.json").read_bytes(), "x").case == entry.case


def test_shrink_says_what_is_violated_instead(run):
    text = FAILING.to_json().decode()
    other = run("shrink", text, "--subject", NEWLINE, "--clause", "contents")
    assert (other.returncode, other.stdout) == (1, "")
    assert "does not violate CONTENTS on this case; it violates ERROR_SET" in other.stderr
    none = run("shrink", text, "--subject", "core")
    assert none.returncode == 1
    assert "does not violate any clause" in none.stderr


def test_show_draws_a_file_a_text_and_standard_input_alike(run, corpus):
    path = next(Path(kept.place) for kept in DirectoryCorpus(corpus).load() if kept.entry.clause == "ERROR_SET")
    drawn = run("show", path)
    assert drawn.returncode == 0
    assert "| 0  block 0, 0x1000 bytes" in drawn.stdout
    assert "violates    ERROR_SET (c)" in drawn.stdout
    assert max(map(len, drawn.stdout.splitlines())) <= 80
    assert run("show", path.read_text()).stdout == run("show", "-", text=path.read_text()).stdout == drawn.stdout


def test_merge_leaves_its_sources_alone(run, corpus, tmp_path):
    before = {path: path.read_bytes() for path in corpus.iterdir()}
    merged = run("merge", corpus, corpus, "--into", tmp_path / "small")
    assert merged.returncode == 0, merged.stderr
    assert merged.stdout.startswith("kept 3 of 4 cases: 3 clauses, ")
    assert {path: path.read_bytes() for path in corpus.iterdir()} == before
    assert len(list(DirectoryCorpus(tmp_path / "small").load())) == 3
    assert "0 are new" in run("merge", corpus, "--into", tmp_path / "small").stdout


def test_schemas_are_printed(run):
    for name in ("case", "comparison", "corpus", "replay", "report"):
        printed = run("schema", name)
        assert (printed.returncode, json.loads(printed.stdout)["title"]) == (0, f"vfio-verify/{name}@1")
    assert run("schema", "nothing").returncode == 2


def test_check_judges_a_kept_case_as_it_does_the_case_alone(run, corpus, tmp_path):
    path = next(Path(kept.place) for kept in DirectoryCorpus(corpus).load() if kept.entry.clause == "ERROR_SET")
    (tmp_path / "bare.json").write_bytes(read_entry(path.read_bytes(), "x").case.to_json())
    texts = (path, path.read_text(), tmp_path / "bare.json", "-")
    judged = [run("check", NEWLINE, "--case", text, text=path.read_text()) for text in texts]
    assert [(one.returncode, one.stderr) for one in judged] == [(1, "")] * 4
    assert "ERROR_SET: the error's message ends in a newline" in judged[0].stdout
    assert len({one.stdout for one in judged}) == 1
    assert run("check", "core", "--case", path).returncode == 0


# ---- what cannot be used ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("replay",), "there is no corpus tests/corpus"),
        (("replay", "nowhere"), "there is no corpus nowhere"),
        (("replay", "temporary"), "there are no cases in temporary"),
        (("replay", "bad.json"), "bad.json is not a corpus entry"),
        (("replay", "good.json", "--subject", "nowhere.c"), "nowhere.c"),
        (("replay", "good.json", "--json", "no/such/file"), "cannot write to no/such/file"),
        (("show", "bad.json"), "bad.json is not a corpus entry"),
        (("show", "nowhere.json"), "cannot read the case nowhere.json"),
        (("show", "temporary"), "cannot read the case temporary"),
        (("show", "{"), "the case given is not a corpus entry"),
        (("show", "other_pages.json"), "other_pages.json: not a case: made for pages of"),
        (("shrink", "good.json"), "--subject"),
        (("shrink", "good.json", "--subject", "core", "--clause", "NONE"), "there is no clause NONE"),
        (("shrink", "good.json", "--subject", "core", "--out", "temporary"), "cannot write to temporary"),
        (("merge", "good.json"), "--into"),
        (("merge", "good.json", "--into", "bad.json"), "cannot write to the corpus bad.json"),
        (("merge", "bad.json", "--into", "new"), "bad.json is not a corpus entry"),
        (("check", "core", "--examples", "1", "--corpus", "bad.json"), "cannot write to the corpus bad.json"),
    ],
)
def test_what_cannot_be_used_exits_with_2_and_says_why(run, tmp_path, arguments, why):
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "good.json").write_bytes(CASE.to_json())
    (tmp_path / "other_pages.json").write_bytes(replace(CASE, page_size=2 * PAGE).to_json())
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "new").exists()


# ---- ended in the middle ------------------------------------------------------------------------------------------


# A script starts what it puts into the background with SIGINT ignored.
@pytest.mark.parametrize("before", [(), ("sh", "-c", """trap '' INT; exec "$@\"""", "sh")], ids=["usual", "background"])
@pytest.mark.parametrize("end", [("SIGINT", 130, 1), ("SIGTERM", 143, 2)], ids=lambda end: end[0])
def test_a_replay_that_is_ended_says_how_far_it_came_and_leaves_nothing(tmp_path, environment, end, before):
    number, status, jobs = end
    subject = tmp_path / "endless.c"
    subject.write_text(ENDLESS)
    for pages in range(1, 121):
        DirectoryCorpus(tmp_path / "many").store(
            Entry(replace(CASE, iovec=(Segment(0, 0, PAGE),) * pages, total_size=pages * PAGE))
        )
    with subprocess.Popen(
        [*before, *commands.command("replay", "many", "--subject", "endless.c", "--jobs", jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        temporary = tmp_path / "temporary"
        latest = time.monotonic() + 60
        while not list(temporary.glob("*/*.so")) and time.monotonic() < latest:
            time.sleep(0.05)
        time.sleep(1.0)
        os.killpg(process.pid, getattr(signal, number))
        out, err = process.communicate(timeout=30)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert "interrupted after 0 of 120 cases" in out
    assert list(temporary.iterdir()) == []
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if names(path, str(temporary))]


def names(path: Path, text: str) -> bool:
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False
