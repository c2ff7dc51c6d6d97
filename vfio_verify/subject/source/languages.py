"""Languages other than C, told by the name of a file and by its text, so that they are not parsed as C."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from vfio_verify.errors import InputError
from vfio_verify.subject.source.text import mask

_BY_SUFFIX = {
    ".rs": "Rust",
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".c++", ".C", ".hh", ".hpp", ".hxx"), "C++"),
    ".go": "Go",
    ".py": "Python",
    ".zig": "Zig",
}
# Bounded where they span lines: a text may be made to have them looked for from each of its lines on.
_FN = re.compile(
    r'^[ \t]*(?:pub(?:\([^)]*\))?\s+|unsafe\s+|const\s+|extern\s+"[^"]*"\s+){0,8}fn\s+\w+\s*[<(]', re.MULTILINE
)
_RUST = re.compile(r"^[ \t]*(?:pub|use|impl|let|mod)\b|->\s{0,99}[\w&*]{1,99}[^;{]{0,300}\{", re.MULTILINE)
_CPP = re.compile(
    r"^[ \t]*(?:template\s*<|namespace\s+(?:\w|\{)|using\s+namespace\b|class\s+\w+[^;(){}]{0,300}\{)|\bstd::\w"
    r"|^[ \t]*#[ \t]*include\s*<(?:c?std\w+|vector|string|memory|iostream|array|span|optional|algorithm)>",
    re.MULTILINE,
)


def language_of(path: str, text: str = "") -> str:
    """The language of a file; "C" if nothing speaks against it."""
    if named := _BY_SUFFIX.get(PurePosixPath(path).suffix):
        return named
    code = mask(text)
    if _FN.search(code) and _RUST.search(code):
        return "Rust"
    return "C++" if _CPP.search(code) else "C"


def refuse_others(path: str, name: str, text: str) -> None:
    """Raise InputError for a file that is not C."""
    if (language := language_of(path, text)) != "C":
        raise InputError(
            f"{name} is {language}, and only C is read; give a C file that holds the function, or calls it (--link)"
        )
