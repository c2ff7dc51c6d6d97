"""A diff as it was found, with what came with it; whether its hunks can be read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from vfio_verify.errors import InputError

if TYPE_CHECKING:
    from unidiff.patch import PatchSet

BEGIN = re.compile(r"^(?:diff --git .*\n|--- \S.*\n\+\+\+ \S.*\n@@ -\d)", re.MULTILINE)
_NUMBER = re.compile(r"\[[^\]]*?\b(?:v\d+\b[^\]]*?)?(\d+)/\d+\]")
_VERSION = re.compile(r"\[[^\]]*?(?:\b|PATCH|RFC)v(\d+)\b", re.IGNORECASE)


class Patch(Struct, frozen=True):
    """One diff, with the subject line and the date that it came with, if any."""

    title: str | None
    diff: str
    date: float | None = None
    """Seconds since the epoch."""

    @property
    def number(self) -> int:
        """Its place in its series, 0 if its title does not say."""
        match = _NUMBER.search(self.title or "")
        return int(match[1]) if match else 0

    @property
    def version(self) -> int | None:
        """The version of its series; None if its title has no prefix in brackets."""
        if not self.title or not self.title.startswith("["):
            return None
        match = _VERSION.search(self.title)
        return int(match[1]) if match else 1


class WithoutDiffError(InputError):
    """An input that is of use only beside others, such as the cover letter of a series."""


def parse(diff: str, name: str) -> PatchSet:
    """The files and hunks of a diff. Raises InputError if it cannot be read."""
    from unidiff.errors import UnidiffParseError  # most subjects are no diff
    from unidiff.patch import PatchSet

    try:
        parsed = PatchSet([line + "\n" for line in diff.split("\n")])
    except (UnidiffParseError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: the diff cannot be read: {str(error).strip()}") from None
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
