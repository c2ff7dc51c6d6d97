"""Hostile subjects whose deed one call shows, as the user of the tests and as one without rights.

Each is called in one worker, and once more after its deed, where it may have left something: the verdict is that of
its first line, and the process that judges it lives on. Where its second line says so, the check forks it after each
call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from nobody import NOBODY, python_of_nobody
from one_worker import CASE
from subject_files import ONE_CALL, SubjectFile, needs_compiler

import vfio_verify
from vfio_verify.subject.subject import open_subject
from vfio_verify.values.case import Case, Fork

pytestmark = needs_compiler

READS = pytest.mark.not_under_asan("its runtime reads its options in /proc, as the sandbox then allows")

SCRIPT = """
import pathlib, sys
import msgspec
from vfio_verify.corpus.entry import read_entry
from vfio_verify.judge import judge
from vfio_verify.values.model import expect
from vfio_verify.worker.worker import Worker

for given in sys.argv[1:]:
    case, library = read_entry(given.partition("@")[2].encode(), "").case, given.partition("@")[0]
    with Worker(pathlib.Path(library), memory_bytes=256 << 20, cpu_seconds=10, sleep_seconds=0.6) as worker:
        found = [[[v.clause, v.summary] for v in judge(case, expect(case), seen).violations if v.clause != "UNCHARGED"]
                 for _ in range(2) for seen in worker.run(case)]
    print(msgspec.json.encode(found).decode(), flush=True)
"""


def case_for(file: SubjectFile) -> Case:
    forks = "/* in a sequence that forks */" in file.path.read_text().splitlines()[1:3]
    return replace(CASE, sequence=(Fork(),)) if forks else CASE


def judged(
    files: list[SubjectFile],
    libraries: dict[str, Path],
    *,
    path: str = "",
    python: str = sys.executable,
    **user: object,
) -> list[list[object]]:
    """What is found in each of two calls of each subject, by a process of its own."""
    given = [f"{libraries[file.path.stem]}@{case_for(file).to_json().decode()}" for file in files]
    environment = {"PATH": os.environ["PATH"], **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(
        [python, "-P", "-c", SCRIPT, *given],
        capture_output=True,
        check=False,
        timeout=120,
        cwd="/",
        env=environment,
        **user,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr.decode()
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


class Libraries(dict[str, Path]):
    """The subjects by their names, compiled when they are first asked for, where every user can read them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __missing__(self, name: str) -> Path:
        (file,) = (file for file in ONE_CALL if file.path.stem == name)
        self[name] = self._directory / f"{name}.so"
        with open_subject(str(file.path)) as subject:
            assert subject.library is not None
            shutil.copy(subject.library, self[name])
        return self[name]


@pytest.fixture(scope="module")
def libraries() -> Iterator[Libraries]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Libraries(Path(name))


def hold(file: SubjectFile, found: list[list[list[str]]]) -> None:
    for call in found:
        clauses = {clause for clause, _ in call}
        assert set(file.violates) <= clauses <= {*file.violates, *file.may_violate}, (file.path.stem, found)


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, marks=READS if file.path.stem == "reads_host" else ()) for file in ONE_CALL],
    ids=lambda file: file.path.stem,
)
def test_one_call_shows_what_it_is(file: SubjectFile, libraries: dict[str, Path]) -> None:
    (found,) = judged([file], libraries)
    hold(file, found)


@pytest.mark.not_under_asan("another Python runs it, without the sanitizers' runtime")
@pytest.mark.skipif(os.geteuid() != 0, reason="all of this file is run without root")
def test_one_call_shows_it_to_a_user_without_rights_too(libraries: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for package in (vfio_verify, msgspec):
            shutil.copytree(Path(package.__file__).parent, directory / package.__name__)
        directory.chmod(0o755)
        python = python_of_nobody(name)
        if python is None:
            pytest.skip("no Python of this version with this package that another user can run")
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        found = judged(ONE_CALL, libraries, path=name, python=python, **user)
    assert len(found) == len(ONE_CALL)
    for file, one in zip(ONE_CALL, found, strict=True):
        hold(file, one)
