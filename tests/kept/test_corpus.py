"""The corpus: written whole or not at all, by many at once, through kills; read back, and refused with a reason."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import packed_cases

import vfio_verify
from vfio_verify.cli.cases import read_case
from vfio_verify.corpus import directory as module
from vfio_verify.corpus.directory import DirectoryCorpus, entry_paths
from vfio_verify.corpus.entry import Entry, Origin, found, read_entry
from vfio_verify.errors import InputError
from vfio_verify.values.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment

CASE = Case(
    (Device((Region(0, 4 * PAGE),)),),
    (RamBlock(0, 0, 0),),
    (Segment(0, 0, PAGE), Segment(0, 2 * PAGE, PAGE)),
    2 * PAGE,
    (Fault("mmap", 2, "ENOMEM"),),
)
ORIGIN = Origin("mine.c", "UNMAP_ON_ERROR", "a page is left", "2026-11-22", "0.1.0", 7)
ENTRY = Entry(CASE, ORIGIN, "seen in review")


# ---- one entry ---------------------------------------------------------------------------------------------


@given(packed_cases(), st.sampled_from([None, ORIGIN]), st.text(max_size=20))
def test_every_entry_comes_back_from_its_file_equal(case, origin, note):
    entry = Entry(case, origin, note)
    assert read_entry(entry.to_json(), "x") == entry


def test_a_file_is_read_in_a_diff_line_by_line():
    lines = ENTRY.to_json().decode().splitlines()
    assert '   {"block": 0, "offset": 0, "length": 4096},' in lines
    assert max(map(len, lines)) < 120
    written = json.loads(ENTRY.to_json())
    assert written["schema"] == "vfio-verify/corpus@1"
    assert written["origin"]["clause"] == "UNMAP_ON_ERROR"


def test_a_name_follows_from_the_case_and_its_clause_alone():
    again = Entry(CASE, Origin("other.c", "UNMAP_ON_ERROR", date="2030-01-01"), "another note")
    assert again.name == ENTRY.name
    assert ENTRY.name.startswith("unmap_on_error-")
    other = msgspec.structs.replace(CASE, total_size=PAGE)
    names = {ENTRY.name, Entry(other, ORIGIN).name, Entry(CASE, Origin("x", "CONTENTS")).name, Entry(CASE).name}
    assert len(names) == 4


@pytest.mark.parametrize("clause", ["../../out", "a/b", "..", "A\n", "A" * 41, ""])
def test_no_entry_is_named_out_of_its_directory(tmp_path, clause):
    """What is merged comes from anywhere."""
    entry = Entry(CASE, Origin("x", clause))
    with pytest.raises(InputError, match="not a corpus entry"):
        read_entry(entry.to_json().replace(b"A\\n", b"\\u002e"), "x")
    path = DirectoryCorpus(tmp_path / "inside").store(entry)
    assert path is not None
    assert Path(path).resolve().parent == tmp_path / "inside"


def test_a_finding_says_when_and_by_what_it_was_found():
    entry = found("mine.c", "CONTENTS", "other memory", CASE, seed=3)
    assert entry.origin is not None
    assert (entry.origin.subject, entry.origin.cause, entry.origin.seed) == ("mine.c", "other memory", 3)
    assert entry.origin.version == vfio_verify.__version__
    assert abs(time.time() - time.mktime(time.strptime(entry.origin.date, "%Y-%m-%d"))) < 3 * 86400


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("no json", "malformed"),
        ("[1, 2]", "Expected `object`"),
        ('{"schema": "vfio-verify/corpus@9", "case": {}}', "corpus@9"),
        ('{"schema": "vfio-verify/corpus@1"}', "case"),
        ('{"schema": "vfio-verify/corpus@1", "case": 3}', "Expected `object`, got `int`"),
        (ENTRY.to_json().replace(b'"block": 0, "offset": 0', b'"block": 5, "offset": 0'), "RAM block 5"),
        (ENTRY.to_json().replace(b'"note"', b'"nota"'), "nota"),
        (b"\xff\xfe", "x"),
        ("[" * 100_000, "x"),
        (ENTRY.to_json().replace(b'"mmap"', b'"' + b"y" * 10_000 + b'"'), "yyy ... yyy"),
    ],
)
def test_what_is_no_entry_is_refused_with_its_file_and_the_reason(text, why):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InputError, match="x is not a corpus entry") as refused:
        read_entry(data, "x")
    assert why in str(refused.value)


# ---- other forms -------------------------------------------------------------------------------------------


def test_a_bare_case_is_an_entry_without_an_origin():
    assert read_entry(CASE.to_json(), "x") == Entry(CASE)


def test_a_violation_of_a_report_is_an_entry_with_its_clause():
    violation = {"clause": "CONTENTS", "summary": "s", "case": json.loads(CASE.to_json()), "evidence": {"calls": []}}
    entry = read_entry(json.dumps(violation).encode(), "x")
    assert (entry.case, entry.clause, entry.note) == (CASE, "CONTENTS", "s")
    with pytest.raises(InputError, match=r"x is not a corpus entry: .*NO SUCH"):
        read_entry(json.dumps(violation | {"case": {"schema": "NO SUCH"}}).encode(), "x")


def test_a_case_for_other_pages_is_read():
    """It is for another machine, and no damaged file."""
    other = msgspec.structs.replace(CASE, page_size=2 * PAGE)
    assert read_entry(Entry(other).to_json(), "x").case == other


# ---- directories ---------------------------------------------------------------------------------------------


def test_what_is_stored_is_loaded_and_stored_once(tmp_path):
    place = tmp_path / "new" / "corpus"
    path = DirectoryCorpus(place).store(ENTRY)
    assert path is not None
    assert Path(path).name == ENTRY.name
    assert DirectoryCorpus(place).store(ENTRY) is None
    assert [stored.entry for stored in DirectoryCorpus(place).load()] == [ENTRY]
    assert os.listdir(place) == [ENTRY.name]


def without(monkeypatch, *, unnamed: int = 0, links: int = 0, proc: int = 0) -> None:
    """A file system or a machine on which these steps fail with an errno."""
    real_open, real_link = os.open, os.link

    def opening(path, flags, *more, **named):
        if unnamed and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(unnamed, "no")
        return real_open(path, flags, *more, **named)

    def linking(source, *more, **named):
        failing = proc if str(source).startswith("/proc") else links
        if failing:
            raise OSError(failing, "no")
        return real_link(source, *more, **named)

    monkeypatch.setattr(module.os, "open", opening)
    monkeypatch.setattr(module.os, "link", linking)


@pytest.mark.parametrize(
    "lacking",
    [
        {"unnamed": errno.EOPNOTSUPP},
        {"unnamed": errno.EISDIR, "links": errno.EPERM},
        {"proc": errno.ENOENT},
    ],
    ids=["no unnamed files", "no links", "no /proc"],
)
def test_a_lesser_file_system_serves_too(tmp_path, monkeypatch, lacking):
    without(monkeypatch, **lacking)
    assert DirectoryCorpus(tmp_path).store(ENTRY) is not None
    assert DirectoryCorpus(tmp_path).store(ENTRY) is None
    assert os.listdir(tmp_path) == [ENTRY.name]
    assert [stored.entry for stored in DirectoryCorpus(tmp_path).load()] == [ENTRY]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    def full(fd, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(InputError, match="No space left"):
        DirectoryCorpus(tmp_path).store(ENTRY)
    without(monkeypatch, unnamed=errno.EOPNOTSUPP)
    with pytest.raises(InputError, match="No space left"):
        DirectoryCorpus(tmp_path).store(ENTRY)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", [b"", b"{", Entry(msgspec.structs.replace(CASE, total_size=1), ORIGIN).to_json()])
def test_a_case_is_not_called_kept_where_its_file_holds_something_else(tmp_path, damage):
    (tmp_path / ENTRY.name).write_bytes(damage)
    with pytest.raises(InputError, match=ENTRY.name):
        DirectoryCorpus(tmp_path).store(ENTRY)


def test_a_corpus_that_is_not_there_empty_or_unreadable_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="there is no corpus"):
        list(DirectoryCorpus(tmp_path / "nowhere").load())
    with pytest.raises(InputError, match="no cases in"):
        list(DirectoryCorpus(tmp_path).load())
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json is not a corpus entry"):
        list(DirectoryCorpus(tmp_path).load())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to the corpus"):
        DirectoryCorpus(tmp_path / "file").store(ENTRY)


def test_a_file_or_a_pipe_is_a_corpus_of_one(tmp_path):
    path = tmp_path / Path(str(DirectoryCorpus(tmp_path).store(Entry(CASE)))).name
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert list(entry_paths(path)) == [path]
    assert list(entry_paths(pipe)) == [pipe]
    assert [stored.entry.case for stored in DirectoryCorpus(path).load()] == [CASE]


@pytest.mark.parametrize("name", ["large.json", "/dev/zero"])
def test_a_file_too_large_for_a_case_is_not_read(tmp_path, name):
    path = tmp_path / name
    if name == "large.json":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    for read in (lambda: list(DirectoryCorpus(path).load()), lambda: read_case(str(path))):
        with pytest.raises(InputError, match=rf"{path} is not a corpus entry: larger than"):
            read()


def test_a_file_that_goes_away_meanwhile_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone.json"
    monkeypatch.setattr(module, "entry_paths", lambda _place: iter([gone]))
    with pytest.raises(InputError, match=r"cannot read .*gone.json: No such file"):
        list(DirectoryCorpus(tmp_path).load())


@pytest.mark.parametrize(
    "broken",
    [{"unnamed": errno.EIO}, {"proc": errno.EIO}, {"unnamed": errno.EISDIR, "links": errno.EIO}],
    ids=["open", "the unnamed file's link", "the other file's link"],
)
def test_what_is_broken_is_no_file_system_of_another_kind(tmp_path, monkeypatch, broken):
    without(monkeypatch, **broken)
    with pytest.raises(InputError, match="cannot write to the corpus"):
        DirectoryCorpus(tmp_path).store(ENTRY)
    assert os.listdir(tmp_path) == []


def test_hidden_and_other_files_are_no_entries(tmp_path):
    DirectoryCorpus(tmp_path / "deep" / "deeper").store(ENTRY)
    (tmp_path / ".half.json.123").write_text("{")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.json").write_text("{")
    (tmp_path / "gone.json").symlink_to("nowhere")
    (tmp_path / "README.md").write_text("x")
    assert [path.name for path in entry_paths(tmp_path)] == [ENTRY.name]


def test_a_directory_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    DirectoryCorpus(tmp_path).store(ENTRY)
    DirectoryCorpus(tmp_path / "closed").store(ENTRY)
    real = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(module.os, "scandir", refusing)
    with pytest.raises(InputError, match="closed: Permission denied"):
        list(DirectoryCorpus(tmp_path).load())


# ---- many writers, and kills -----------------------------------------------------------------------------------

KILLS = int(os.environ.get("VFIO_VERIFY_KILLS", "16"))
"""Of each way to write. VFIO_VERIFY_KILLS=200 takes about half a minute."""

# For each line that it reads it starts three writers in a process group of their own, and prints that group's number.
# Two write the same cases, one writes others; what is kept they say in a file, a line at a time.
WRITERS = """
import itertools, os, sys
from pathlib import Path
from msgspec.structs import replace
from vfio_verify.corpus import directory as module
from vfio_verify.corpus.directory import DirectoryCorpus
from vfio_verify.corpus.entry import read_entry
place, entry, said = Path(sys.argv[1]), read_entry(Path(sys.argv[2]).read_bytes(), "x"), sys.argv[3]
if sys.argv[4] == "renamed":
    module._write_whole = module._write_renamed
out = os.open(said, os.O_WRONLY | os.O_APPEND)
for number, _ in enumerate(sys.stdin):
    group = 0
    for first in (0, 0, 1 << 20):
        pid = os.fork()
        if not pid:
            os.setpgid(0, group)
            for size in itertools.count(first + (number << 24)):
                path = DirectoryCorpus(place).store(replace(entry, case=replace(entry.case, total_size=size)))
                if path is not None:
                    os.write(out, os.path.basename(path).encode() + b"\\n")
        group = group or pid
        os.setpgid(pid, group)
    print(group, flush=True)
    for _ in range(3):
        os.wait()
"""


@pytest.fixture(params=["unnamed", "renamed"])
def writers(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "entry.json").write_bytes(ENTRY.to_json())
    (tmp_path / "said").touch()
    places = [str(tmp_path / name) for name in ("corpus", "entry.json", "said")]
    with subprocess.Popen(
        [sys.executable, "-P", "-c", WRITERS, *places, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_kills_at_any_moment_lose_nothing_that_was_said_to_be_saved(tmp_path, writers):
    assert writers.stdin is not None
    assert writers.stdout is not None
    moments = random.Random(KILLS)
    for _ in range(KILLS):
        writers.stdin.write("\n")
        writers.stdin.flush()
        group = int(writers.stdout.readline())
        time.sleep(moments.uniform(0, 0.06))
        os.killpg(group, signal.SIGKILL)
    writers.stdin.close()
    assert writers.wait(30) == 0
    said = (tmp_path / "said").read_text().splitlines()
    assert len(said) > KILLS
    assert len(set(said)) == len(said)  # of two writers one has written it
    kept = {Path(stored.place).name: stored.entry.name for stored in DirectoryCorpus(tmp_path / "corpus").load()}
    assert kept.keys() >= set(said)
    assert all(name == by_content for name, by_content in kept.items())
    whole = [name for name in os.listdir(tmp_path / "corpus") if not name.startswith(".")]
    assert sorted(whole) == sorted(kept)
