"""A diff as it was found, with what came with it; whether its hunks can be read."""

from __future__ import annotations

import re
from operator import length_hint
from typing import TYPE_CHECKING

from msgspec import Struct

from vfio_verify.errors import InputError
from vfio_verify.values.markup import shortened

if TYPE_CHECKING:
    from unidiff.patch import PatchSet

BEGIN = re.compile(r"^(?:diff --git .*\n|--- \S.*\n\+\+\+ \S.*\n@@ -\d)", re.MULTILINE)
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"\b(\d{1,9})/\d+$")
_VERSION = re.compile(r"(?:\b|PATCH|RFC)v(\d{1,9})\b", re.IGNORECASE)


class Patch(Struct, frozen=True):
    """One diff, with the subject line and the date that it came with, if any."""

    title: str | None
    diff: str
    date: float | None = None
    """Seconds since the epoch."""

    @property
    def number(self) -> int:
        """Its place in its series, 0 if its title does not say."""
        return self._told(_NUMBER) or 0

    @property
    def version(self) -> int | None:
        """The version of its series; None if its title has no prefix in brackets."""
        if not self.title or not self.title.startswith("["):
            return None
        return self._told(_VERSION) or 1

    def _told(self, what: re.Pattern[str]) -> int | None:
        """A number in the brackets of its title."""
        found = filter(None, map(what.search, _BRACKETS.findall(self.title or "")))
        return next((int(match[1]) for match in found), None)


class WithoutDiffError(InputError):
    """An input that is of use only beside others, such as the cover letter of a series."""


def parse(diff: str, name: str) -> PatchSet:
    """The files and hunks of a diff. Raises InputError if it cannot be read."""
    from unidiff.errors import UnidiffParseError  # most subjects are no diff
    from unidiff.patch import PatchSet

    lines = diff.split("\n")
    left = iter(lines)
    try:
        parsed = PatchSet(line + "\n" for line in left)
    except (UnidiffParseError, ValueError, RecursionError) as error:
        number, reason = len(lines) - length_hint(left), shortened(str(error).strip())
        raise InputError(f"{name}: the diff cannot be read at its line {number}: {reason}") from None
    if "\n@@@ " in diff:
        raise InputError(f"{name} is a diff of a merge; give the diff against one parent")
    return parsed


def begun(text: str) -> str | None:
    """The text from where its diff begins; None if it holds none."""
    begin = BEGIN.search(text)
    return text[begin.start() :] if begin else None


def is_readable(diff: str) -> bool:
    """Whether every hunk has the lines that it announces."""
    try:
        return any(map(len, parse(diff, "")))
    except InputError:
        return False
