"""A line of a subject's text, what it says, and which of a compiler's file names are the subject's own."""

from __future__ import annotations

import os
from functools import cached_property

from msgspec import Struct


class SourceLine(Struct, frozen=True):
    """A line of a subject's text. `function` holds it; `text` is the line without its margin, and with those on
    which a call goes on; "" if it is not known."""

    file: str
    line: int
    function: str | None = None
    text: str = ""


class LeftOut(Struct, frozen=True):
    """Lines of a function that were not compiled, and why."""

    file: str
    first: int
    last: int
    why: str


_MOST_LINES = 4


class Piece(Struct, frozen=True):
    """A run of lines of one file, which is named as the user or the patch does."""

    file: str
    first_line: int
    text: str


class SourceText(Struct, frozen=True, dict=True):
    """The files of a subject as far as they were given. `directory` is where a C file's own includes lie."""

    pieces: tuple[Piece, ...]
    directory: str | None = None
    prefix: str = ""
    """What the user calls that directory."""

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {os.path.normpath(piece.file): piece.file for piece in self.pieces}

    @cached_property
    def _lines(self) -> dict[str, dict[int, str]]:
        files: dict[str, dict[int, str]] = {}
        for piece in self.pieces:
            files.setdefault(piece.file, {}).update(enumerate(piece.text.split("\n"), piece.first_line))
        return files

    def own(self, name: str) -> str | None:
        """The user's name of a file that the compiler has named, or None if it is none of the subject's."""
        if (given := self._by_name.get(os.path.normpath(name))) is not None:
            return given
        if self.directory is None or not os.path.isabs(name):
            return None
        below = os.path.relpath(name, self.directory)
        named = os.path.join(self.prefix, below)
        return None if below.split(os.sep, 1)[0] == os.pardir else self._by_name.get(os.path.normpath(named), named)

    def whole_line(self, file: str, number: int) -> str:
        """A line as it is, or "" if it is not known."""
        return self._lines.get(self.own(file) or file, {}).get(number, "")

    def line(self, file: str, number: int) -> str:
        """A line without its margins, or "" if it is not known; with the next ones where a parenthesis stays open."""
        lines = self._lines.get(file, {})
        text = lines.get(number, "").strip()
        for further in range(number + 1, number + _MOST_LINES):
            if text.count("(") <= text.count(")"):
                break
            text += " " + lines.get(further, "").strip()
        return " ".join(text.split())
