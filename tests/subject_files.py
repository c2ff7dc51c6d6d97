"""The C subjects of this directory, with what their first lines promise."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace
from once import once

from vfio_verify.subject.subject import Subject, open_subject

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")

DIRECTORY = Path(__file__).parent / "subjects"


class SubjectFile(NamedTuple):
    """One C file. `violates` is empty for a correct one; `rare` says that few layouts show the fault. `refused` is what
    must be said of one that cannot be loaded. `confined` ones can do it only without the sandbox."""

    path: Path
    violates: tuple[str, ...]
    may_violate: frozenset[str]
    sentence: str
    refused: str | None = None
    confined: bool = False

    @property
    def rare(self) -> bool:
        return self.sentence.startswith("only")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def read(path: Path) -> SubjectFile:
    lines = path.read_text().splitlines()
    head = re.fullmatch(r"/\* (?:violates: ([A-Z_, ]+)|conforms|is not loaded: (.+)) \| (.+) \*/", lines[0])
    assert head, f"{path.name}: the first line is not as subjects/README.md says"
    more = next(filter(None, (re.fullmatch(r"/\* may violate: ([A-Z_, ]+) \*/", line) for line in lines[1:3])), None)
    return SubjectFile(
        path,
        tuple(_names(head[1])) if head[1] else (),
        frozenset(_names(more[1]) if more else ()),
        head[3],
        head[2],
        "/* the sandbox refuses it */" in lines[1:3],
    )


class AssumingFile(NamedTuple):
    """A C file that refuses every buffer, since it takes QEMU for what it is not. `assume` are the conventions by which
    it goes on, and `violates` what it violates then."""

    path: Path
    assume: tuple[str, ...]
    violates: tuple[str, ...]


def read_assuming(path: Path) -> AssumingFile:
    first = path.read_text().splitlines()[0]
    head = re.fullmatch(r"/\* assuming (\S+(?: \S+=\S+)*) (?:violates: ([A-Z_, ]+)|conforms) \| .+ \*/", first)
    assert head, f"{path.name}: the first line is not as subjects/README.md says"
    return AssumingFile(path, tuple(head[1].split()), tuple(_names(head[2])) if head[2] else ())


BROKEN = [read(path) for path in sorted(DIRECTORY.glob("broken/*.c"))]
TWO_FAULTS = [read(path) for path in sorted(DIRECTORY.glob("two_faults/*.c"))]
CORRECT = [read(path) for path in sorted(DIRECTORY.glob("correct/*.c"))]
HOSTILE = [read(path) for path in sorted(DIRECTORY.glob("hostile/*.c"))]
ASSUMING = [read_assuming(path) for path in sorted(DIRECTORY.glob("assuming/*.c"))]
ONE_CALL = [read(path) for path in sorted(DIRECTORY.glob("hostile/one_call/*.c"))]


@contextmanager
def built_once(path: Path) -> Iterator[Subject]:
    """As `open_subject`, for a file of this directory: it is compiled by the first process of the session that asks for
    it, and stays."""
    yield once(path.relative_to(DIRECTORY).with_suffix("").as_posix(), partial(_built, path))


def _built(path: Path, directory: Path) -> Subject:
    with open_subject(str(path)) as subject:
        assert subject.library is not None  # it is C
        return replace(subject, library=Path(shutil.copy(subject.library, directory)))
