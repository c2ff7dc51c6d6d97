"""Places in the source, for tools that show violations beside it: a path in a tree, and a line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from vfio_verify.report.report import Report
from vfio_verify.report.violations import ViolationEntry

# Where the core is written, in this project's tree.
_CORE = "pyx/_core.pyx"
_CORE_DEFINITION = re.compile(rb"^cdef .*\bcore_map\(", re.MULTILINE)


class Location(Struct, frozen=True):
    """`path` is relative to the root of the sources, with slashes, or absolute for a file outside it."""

    path: str
    line: int | None

    @property
    def below_root(self) -> bool:
        return not os.path.isabs(self.path)


class Locations(Struct, frozen=True):
    """The places of a report; None for what has no file."""

    root: Path
    subject: Location | None
    """The definition of the function."""
    violations: tuple[Location | None, ...]
    """The line of each violation, in their order. Where it is not known, the definition of the function."""
    further: tuple[Location | None, ...] = ()
    """The same of what lies behind the first fault."""


def locate(report: Report, root: Path, directory: Path) -> Locations:
    """The places of a report on a subject that was named in `directory`.

    A patch names its files as they are in the tree that it applies to: such a path is kept, and is taken from the
    root, even if there is no such tree. The core is in this project's tree.
    """
    if report.subject.kind == "core":
        head: Location | None = Location(_CORE, _core_line(root))
    else:
        path, _, number = (report.subject.place or "").rpartition(":")
        head = _locate(path, int(number or 0), root, directory)

    def places(violations: Iterable[ViolationEntry]) -> tuple[Location | None, ...]:
        lines = (violation.where for violation in violations)
        return tuple((line and _locate(line.file, line.line, root, directory)) or head for line in lines)

    return Locations(root, head, places(report.violations), places(report.further))


def _locate(path: str, line: int, root: Path, directory: Path) -> Location | None:
    if not path or path.startswith("<"):  # standard input
        return None
    try:
        here = os.path.realpath(directory / path)
    except ValueError:  # a patch can quote a name that no file can have
        return None
    if os.path.isabs(path) or os.path.exists(here):
        relative = os.path.relpath(here, os.path.realpath(root))
        path = here if _leaves(relative) else relative
    else:
        path = os.path.normpath(path)
        if _leaves(path):
            return None
    return Location(path, line)


def _leaves(relative: str) -> bool:
    return relative.split(os.sep, 1)[0] == os.pardir


def _core_line(root: Path) -> int | None:
    try:
        text = (root / _CORE).read_bytes()
    except OSError:
        return None
    found = _CORE_DEFINITION.search(text)
    return None if found is None else text.count(b"\n", 0, found.start()) + 1
