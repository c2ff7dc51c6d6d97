"""A C file and the headers beside it that it includes, and which files it may include by a path.

A header of a QEMU tree includes more of QEMU, so to compile it whole would not do: headers are cut like the file
itself. A stranger's text could name any file that the user can read, and errors and mappings would tell what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.subject.source import raw
from vfio_verify.subject.source.text import Fragment, Preprocessed, preprocess

_SUFFIXES = frozenset((".h", ".c", ".i", ".inc", ".def", ".tbl"))
_MOST = 100


class Included(Struct, frozen=True):
    """What a C file includes."""

    headers: dict[Path, Preprocessed]
    """By their real names; each comes after those that it includes itself."""
    missing: tuple[str, ...]
    """The names of those that are nowhere, with their quotes."""


def headers_of(
    source: Preprocessed, directories: Sequence[str] = (), *, any_include: bool, beside: bool = True
) -> Included:
    """The headers that a C file includes, and those that these include: beside it, and in these directories.

    Without `beside` there is nothing beside it, since it is no file.

    Raises InputError for an include that is refused, unless `any_include` allows it.
    """
    own = Path(source.fragment.file)
    further = [Path(directory) for directory in directories]
    outermost = source
    seen = {own.resolve()}
    found: dict[Path, Preprocessed] = {}
    missing: dict[str, None] = {}

    def add(source: Preprocessed) -> None:
        near = [own.parent] if beside else []
        if source is not outermost:
            near = [Path(source.fragment.file).parent, *near]
        for directive in source.directives:
            if not directive.included or source.is_dead(directive.start):
                continue
            is_quoted = directive.included[0] == '"'
            name = directive.included[1:-1]
            header = None
            try:
                if is_quoted:
                    header = _find(name, dict.fromkeys(near), None if any_include else own.parent.resolve())
                for directory in further if header is None else ():
                    root = None if any_include else Path(os.path.realpath(directory))  # a loop of links is no error
                    header = header or _find(name, [directory], root)
            except InputError as error:
                raise InputError(f"{source.fragment.place(directive.start)}: {error}") from None
            if header is None and is_quoted:
                missing[directive.included] = None
            if header is None or (real := header.resolve()) in seen or len(seen) > _MOST:
                continue
            seen.add(real)
            inner = preprocess(Fragment(str(header), 1, raw.read_text(str(header))))
            add(inner)
            found[real] = inner

    add(source)
    return Included(found, tuple(missing))


def _find(name: str, directories: Iterable[Path], root: Path | None) -> Path | None:
    """The file that ``#include "name"`` means: the first of that name in these directories. None if there is none.

    Raises InputError if it is no source of C, symbolic links followed: another kind of file, or one that is hidden.
    What lies above `root`, the directory of the user's own file, hides nothing. Without a root, nothing is refused.
    """
    for path in (directory / name for directory in directories):
        try:
            if not path.exists():
                continue
            resolved = path.resolve()
        except OSError:
            resolved = None
        if root is not None and not (resolved and _is_source(resolved, root)):
            raise InputError(
                f'#include "{name}" is refused: it is not a header or a C source, or it is hidden. '
                "If you trust the code, check with --no-sandbox"
            )
        return path if resolved and resolved.is_file() else None
    return None


def _is_source(path: Path, root: Path) -> bool:
    below = [part for part in os.path.relpath(path, root).split(os.sep) if part != os.pardir]
    return path.suffix in _SUFFIXES and path.is_file() and not any(part.startswith(".") for part in below)
