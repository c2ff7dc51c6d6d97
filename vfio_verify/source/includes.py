"""Which files beside a C file it may include: headers and the like in its directory, and no file of the user's besides.

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

    Raises InputError if it is no source of C in `root` or below: another kind of file, one that is hidden or that a
    symbolic link has elsewhere.
    """
    path = directory / name
    try:
        if not path.exists():
            return None
        resolved = path.resolve()
        inside = resolved.relative_to(root.resolve())
    except (OSError, ValueError):
        raise _refused(name, root) from None
    hidden = any(part.startswith(".") for part in inside.parts)
    if hidden or resolved.suffix not in _SUFFIXES or not resolved.is_file():
        raise _refused(name, root)
    return path


def _refused(name: str, root: Path) -> InputError:
    return InputError(
        f'#include "{name}" is refused: it is no header or C source in {root} or below. '
        "If you trust the code, check with --no-sandbox"
    )


def named_by(text: str, root: Path) -> list[Path]:
    """The files in `root` or below that a text's quoted includes name, and those that these name. As `beside`."""
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
