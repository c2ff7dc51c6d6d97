"""Inputs that nobody meant (tests/mutations.py): each is read, or refused in one sentence that says where; none ends in
a traceback or never, and none leaves anything behind. `tox -e long` tries 100,000."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import command
from mutations import FORMS, SECRET, Input, Link, mutated, write

from vfio_verify.cli.cases import read_case
from vfio_verify.corpus.shared import open_corpus
from vfio_verify.errors import InputError
from vfio_verify.search.place import decoded
from vfio_verify.subject.source import Given, Source, read_source
from vfio_verify.subject.source.reading import versions_in

INPUTS = int(os.environ.get("VFIO_VERIFY_LONG_INPUTS", "100000"))
FIRST_SEED = int(os.environ.get("VFIO_VERIFY_LONG_SEED", "1000"))
SHARDS = 50
ONE_IN = 400
"""How many inputs there are for each that is given to the whole program."""
LIMIT = 5.0
"""Seconds of processor time for one input; of the clock, some times as much."""


class EndlessError(BaseException):
    """An input did not come to an end. No error that the program catches."""


@contextmanager
def limited() -> Iterator[None]:
    def end(*_: object) -> None:
        raise EndlessError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 6 * LIMIT)
    begun = time.process_time()
    try:
        yield
        assert time.process_time() - begun < LIMIT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def read(given: Input) -> list[Source]:
    """Read an input as the commands do. The sources of C in it, one of each version. Raises InputError."""
    if given.form == "case":
        read_case(given.names[0])
    elif given.form == "corpus":
        list(open_corpus(given.names[0]).load())
    elif given.form == "state":
        decoded(Path(given.names[0]).read_bytes(), given.names[0])
    elif given.form == "versions":
        found = versions_in(given.names[0])
        return [read_source(given.names, given=Given(given.tree, **given.more | {"version": one})) for one in found]
    else:
        return [read_source(given.names, given=Given(given.tree, **given.more))]
    return []


def committed(given: Input, place: Path) -> str:
    """The tree of an input as a commit of a repository, by what a command names it."""
    stream = [b"commit refs/heads/x\ncommitter A <a@b> 0 +0000\ndata 0\ndeleteall\n"]
    for path, content in given.files.items():
        inside = os.fsencode(path.removeprefix("tree/"))
        if not path.startswith("tree/") or not isinstance(content, bytes | Link) or b".git" in inside:
            continue
        data = os.fsencode(content.target) if isinstance(content, Link) else content
        mode = b"120000" if isinstance(content, Link) else b"100644"
        quoted = inside.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
        stream.append(b'M %b inline "%b"\ndata %d\n%b\n' % (mode, quoted, len(data), data))
    git = ["git", "-C", place]
    subprocess.run([*git, "fast-import", "--quiet", "--force"], input=b"".join(stream), check=True)
    done = subprocess.run([*git, "rev-parse", "x"], check=True, capture_output=True, text=True)
    return f"{place}@{done.stdout.strip()}"


def below(place: Path) -> list[tuple[str, int, int]]:
    """All that is there, with sizes and times."""
    found = []
    for directory, inside, files in os.walk(place):
        for name in (*inside, *files):
            status = os.lstat(os.path.join(directory, name))
            found.append((os.path.join(directory, name), status.st_size, status.st_mtime_ns))
    return sorted(found)


def open_files() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def children() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


def refuse_vague(message: str, given: Input) -> None:
    """A message's first line has a place: the name of what was given, or of a file in it, or the option."""
    message = message.partition("\n")[0]
    named = [*given.names, *(os.path.basename(path) for path in given.files), "--tree", "-D ", "-I ", "version"]
    assert any(name in message for name in named if name) or re.search(r"\w:\d|\w\.[ch]\b|path out of", message), (
        message
    )


class Reader:
    """Reads inputs in a directory of its own, and looks at what that leaves."""

    def __init__(self, place: Path) -> None:
        self.desk, self.temporary, self.repository = place / "desk", place / "temporary", place / "repository"
        for directory in (self.desk, self.temporary):
            directory.mkdir()
        (place / "secret.c").write_text(f"int {SECRET};\nbool own_check(void) {{ return {SECRET}; }}\n")
        self.read_whole = 0

    def put(self, given: Input) -> Input:
        shutil.rmtree(self.desk)
        self.desk.mkdir()
        os.chdir(self.desk)
        write(given, self.desk)
        if given.form == "commit" and given.tree == "tree":
            if not self.repository.exists():
                subprocess.run(["git", "init", "-q", self.repository], check=True)
            given = given._replace(tree=committed(given, self.repository))
        return given

    def left(self) -> tuple[object, ...]:
        """What an input must leave as it was."""
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer) and thread.finished.is_set():
                thread.join()  # it was cancelled, and is about to end
        return below(self.desk), below(self.temporary)

    def held(self) -> set[object]:
        """What this process holds, and may hold less of afterwards: an earlier test may have left what goes now."""
        return {*open_files(), *children().split(), *threading.enumerate()}

    def judge(self, given: Input, *, whole_program: bool) -> None:
        given = self.put(given)
        before, held = self.left(), self.held()
        refused = None
        try:
            with limited():
                sources = read(given)
        except InputError as error:
            refused, sources = str(error), []
            refuse_vague(refused, given)
        assert self.left() == before
        assert self.held() <= held
        self.read_whole += refused is None
        if given.form in ("tree", "built tree", "commit") and given.tree in ("tree", f"{self.repository}@"):
            assert not any(SECRET in source.unit for source in sources)
        if whole_program:
            self.run(given, refused)

    def run(self, given: Input, refused: str | None) -> None:
        words = {"case": ["show"], "corpus": ["replay"], "versions": ["compare", *FEW]}.get(given.form, ["check", *FEW])
        if given.form == "state":
            return
        try:
            options = Given(given.tree, **given.more).arguments
        except InputError:
            return
        done = subprocess.run(
            command(*words, *options, "--", *given.names),
            env={**os.environ, "TMPDIR": str(self.temporary)},
            capture_output=True,
            timeout=120,
            check=False,
        )
        said = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 1, 2, 4), said
        assert "Traceback" not in said
        assert list(self.temporary.iterdir()) == []
        if refused is not None:
            assert done.returncode == 2, said


FEW = ["--examples", "1", "--jobs", "1"]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    reader = Reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(reader.temporary))
    return reader


def judge_all(reader: Reader, seed: int, numbers: range, one_in: int) -> None:
    for number in numbers:
        given = mutated(seed, number)
        try:
            reader.judge(given, whole_program=number % one_in == 0)
        except (Exception, EndlessError) as error:
            said = (
                f"mutated({seed}, {number}), which lies in {reader.desk}: {given.form}: {type(error).__name__}: {error}"
            )
            raise AssertionError(said) from error


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read_as_it_is(reader: Reader, form: str) -> None:
    reader.judge(FORMS[form], whole_program=False)
    assert reader.read_whole == 1


@pytest.mark.parametrize("seed", range(4))
def test_bad_input_is_read_or_refused_and_leaves_nothing(reader: Reader, seed: int) -> None:
    judge_all(reader, seed, range(1, 101), INPUTS)


@pytest.mark.long
@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_bad_input_of_many_ends_in_a_traceback_or_never(
    reader: Reader, shard: int, record_property: Callable[[str, object], None]
) -> None:
    each = -(-INPUTS // SHARDS)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    judge_all(reader, FIRST_SEED + shard, range(each), ONE_IN)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < memory + (1 << 20)  # KiB
    assert each < 100 or each // 10 < reader.read_whole < each - each // 10
    record_property("bad_inputs", each)
