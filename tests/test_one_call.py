"""Hostile subjects whose deed one call shows, as the user of the tests and as one without rights.

Each is called in one worker, and once more after its deed, where it may have left something: the verdict is that of
its first line, and the process that judges it lives on.
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
from subject_files import ONE_CALL, SubjectFile, needs_compiler
from test_sandbox import NOBODY, python_of_nobody
from test_worker import CASE

import vfio_verify
from vfio_verify.subject import open_subject

pytestmark = needs_compiler

SCRIPT = """
import pathlib, sys
import msgspec
from vfio_verify.case import from_json
from vfio_verify.errors import InputError
from vfio_verify.judge import judge
from vfio_verify.model import expect
from vfio_verify.worker import Worker

case = from_json(sys.argv[1])
for library in sys.argv[2:]:
    with Worker(pathlib.Path(library), memory_bytes=256 << 20, cpu_seconds=10, sleep_seconds=0.6) as worker:
        found = [[[v.clause, v.summary] for v in judge(case, expect(case), seen).violations if v.clause != "UNCHARGED"]
                 for _ in range(2) for seen in worker.run(case)]
    print(msgspec.json.encode(found).decode(), flush=True)
"""


def judged(
    libraries: list[Path], *, path: str = "", python: str = sys.executable, **user: object
) -> list[list[object]]:
    """What is found in each of two calls of each subject, by a process of its own."""
    environment = {"PATH": os.environ["PATH"], **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(
        [python, "-P", "-c", SCRIPT, CASE.to_json().decode(), *map(str, libraries)],
        capture_output=True,
        check=False,
        timeout=120,
        cwd="/",
        env=environment,
        **user,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr.decode()
    return [msgspec.json.decode(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def libraries() -> Iterator[dict[str, Path]]:
    """The subjects, compiled, where every user can read them."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        for file in ONE_CALL:
            with open_subject(str(file.path)) as subject:
                assert subject.library is not None
                shutil.copy(subject.library, directory / f"{file.path.stem}.so")
        yield {file.path.stem: directory / f"{file.path.stem}.so" for file in ONE_CALL}


def hold(file: SubjectFile, found: list[list[list[str]]]) -> None:
    for call in found:
        clauses = {clause for clause, _ in call}
        assert set(file.violates) <= clauses <= {*file.violates, *file.may_violate}, (file.path.stem, found)


@pytest.mark.parametrize("file", ONE_CALL, ids=lambda file: file.path.stem)
def test_one_call_shows_what_it_is(file: SubjectFile, libraries: dict[str, Path]) -> None:
    (found,) = judged([libraries[file.path.stem]])
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
        found = judged([libraries[file.path.stem] for file in ONE_CALL], path=name, python=python, **user)
    assert len(found) == len(ONE_CALL)
    for file, one in zip(ONE_CALL, found, strict=True):
        hold(file, one)
