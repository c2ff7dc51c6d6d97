"""Which files a C file may include by a path: headers and the like that are not hidden, and no other of the user's.

A stranger's text could name any file that the user can read, and errors and mappings would tell what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vfio_verify.errors import InputError

_SUFFIXES = frozenset((".h", ".c", ".i", ".inc", ".def", ".tbl"))
_QUOTED = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
_MOST = 100


def beside(directory: Path, name: str, root: Path) -> Path | None:
    """The file that ``#include "name"`` means in a file of `directory`; None if there is none.

    Raises InputError if it is no source of C, symbolic links followed: another kind of file, or one that is hidden.
    What lies above `root`, the directory of the user's own file, hides nothing.
    """
    path = directory / name
    try:
        if not path.exists():
            return None
        resolved, known = path.resolve(), root.resolve()
    except OSError:
        raise _refused(name) from None
    hidden = any(
        part.startswith(".") for i, part in enumerate(resolved.parts) if resolved.parts[: i + 1] != known.parts[: i + 1]
    )
    if hidden or resolved.suffix not in _SUFFIXES or not resolved.is_file():
        raise _refused(name)
    return path


def _refused(name: str) -> InputError:
    return InputError(
        f'#include "{name}" is refused: it is no header or C source, or is hidden. '
        "If you trust the code, check with --no-sandbox"
    )


def named_by(text: str, root: Path) -> list[Path]:
    """The files that a text's quoted includes name, and those that these name. As `beside`."""
    found: dict[Path, None] = {}
    for path in _named(text, root, root, found):
        found[path] = None
    return list(found)


def _named(text: str, directory: Path, root: Path, found: dict[Path, None]) -> Iterator[Path]:
    for name in _QUOTED.findall(text):
        for place in dict.fromkeys((directory, root)):
            path = beside(place, name, root)
            resolved = path and path.resolve()
            if resolved is None or resolved in found or len(found) > _MOST:
                continue
            found[resolved] = None
            yield resolved
            yield from _named(resolved.read_text(encoding="utf-8", errors="replace"), resolved.parent, root, found)
