"""The corpus: written whole or not at all, by many at once, through kills; read back, and refused with a reason."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_verify import corpus
from vfio_verify.case import PAGE, Case, Device, Fault, RamBlock, Region, Segment
from vfio_verify.corpus import MIGRATIONS, Entry, Origin, entry_paths, load, read_entry, store
from vfio_verify.errors import InputError
from vfio_verify.strategies import packed_cases

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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("no json", "malformed"),
        ("[1, 2]", "Expected `object`"),
        ('{"schema": "vfio-verify/corpus@9", "case": {}}', "corpus@9"),
        ('{"schema": "vfio-verify/corpus@1"}', "case"),
        (ENTRY.to_json().replace(b'"block": 0, "offset": 0', b'"block": 5, "offset": 0'), "RAM block 5"),
        (ENTRY.to_json().replace(b'"note"', b'"nota"'), "nota"),
        (b"\xff\xfe", "x"),
        ("[" * 100_000, "x"),
    ],
)
def test_what_is_no_entry_is_refused_with_its_file_and_the_reason(text, why):
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InputError, match="x is no corpus entry") as refused:
        read_entry(data, "x")
    assert why in str(refused.value)


# ---- older schemas -------------------------------------------------------------------------------------------


def test_a_bare_case_is_an_entry_without_an_origin():
    assert read_entry(CASE.to_json(), "x") == Entry(CASE)


def test_a_violation_of_a_report_is_an_entry_with_its_clause():
    violation = {"clause": "CONTENTS", "summary": "s", "case": json.loads(CASE.to_json()), "evidence": {"calls": []}}
    entry = read_entry(json.dumps(violation).encode(), "x")
    assert (entry.case, entry.clause, entry.note) == (CASE, "CONTENTS", "s")


def test_older_schemas_are_migrated_step_by_step_to_the_present_one(monkeypatch):
    def renamed(raw):
        return {"schema": "vfio-verify/case@1", **{k: v for k, v in raw.items() if k not in ("schema", "size")}} | {
            "total_size": raw["size"]
        }

    monkeypatch.setitem(MIGRATIONS, "vfio-verify/case@0", renamed)
    old = json.loads(CASE.to_json()) | {"schema": "vfio-verify/case@0", "size": CASE.total_size}
    del old["total_size"]
    assert read_entry(json.dumps(old).encode(), "x") == Entry(CASE)


def test_steps_that_lead_in_a_circle_end(monkeypatch):
    monkeypatch.setitem(MIGRATIONS, "a", lambda raw: {**raw, "schema": "b"})
    monkeypatch.setitem(MIGRATIONS, "b", lambda raw: {**raw, "schema": "a"})
    with pytest.raises(InputError, match="no corpus entry"):
        read_entry(b'{"schema": "a"}', "x")


# ---- directories ---------------------------------------------------------------------------------------------


def test_what_is_stored_is_loaded_and_stored_once(tmp_path):
    place = tmp_path / "new" / "corpus"
    path = store(place, ENTRY)
    assert path is not None
    assert path.name == ENTRY.name
    assert store(place, ENTRY) is None
    assert [stored.entry for stored in load(place)] == [ENTRY]
    assert os.listdir(place) == [ENTRY.name]


def test_a_file_system_without_unnamed_files_serves_too(tmp_path, monkeypatch):
    real = os.open

    def refusing(path, flags, *more, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(corpus.os, "open", refusing)
    assert store(tmp_path, ENTRY) is not None
    assert store(tmp_path, ENTRY) is None
    assert os.listdir(tmp_path) == [ENTRY.name]


def test_a_corpus_that_is_not_there_empty_or_unreadable_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="there is no corpus"):
        list(load(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no cases in"):
        list(load(tmp_path))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json is no corpus entry"):
        list(load(tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to the corpus"):
        store(tmp_path / "file", ENTRY)


def test_hidden_and_other_files_are_no_entries(tmp_path):
    store(tmp_path / "deep" / "deeper", ENTRY)
    (tmp_path / ".half.json.123").write_text("{")
    (tmp_path / "README.md").write_text("x")
    assert [path.name for path in entry_paths(tmp_path)] == [ENTRY.name]


# ---- many writers, and kills -----------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from msgspec.structs import replace
from vfio_verify.corpus import Entry, read_entry, store
entry = read_entry(Path(sys.argv[2]).read_bytes(), "x")
for number in range(int(sys.argv[3]), 10**9):
    path = store(Path(sys.argv[1]), replace(entry, case=replace(entry.case, total_size=number)))
    if path is not None:
        print(path.name, flush=True)
"""


def start_writer(place: Path, entry: Path, first: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", WRITER, str(place), str(entry), str(first)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def test_kills_at_any_moment_lose_nothing_that_was_said_to_be_saved(tmp_path):
    place, entry = tmp_path / "corpus", tmp_path / "entry.json"
    entry.write_bytes(ENTRY.to_json())
    said: set[str] = set()
    for round_number in range(10):
        # Two write the same cases, a third others.
        writers = [start_writer(place, entry, round_number * 10_000 + first) for first in (0, 0, 5000)]
        for writer in writers:
            assert writer.stdout is not None
            said.add(writer.stdout.readline().strip() or ENTRY.name)
        time.sleep(0.003 * round_number)
        for writer in writers:
            os.killpg(writer.pid, signal.SIGKILL)
        for writer in writers:
            said |= {line for line in writer.communicate()[0].splitlines() if line}
    said.discard(ENTRY.name)
    assert len(said) > 20
    assert {stored.path.name for stored in load(place)} >= said
    assert all(stored.path.name == stored.entry.name for stored in load(place))
    assert all(name.endswith(".json") for name in os.listdir(place))
