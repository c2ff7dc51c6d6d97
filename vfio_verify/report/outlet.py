"""Standard output and standard error, on which a subject's text is text and nothing else.

A stranger chose the words of a message, of a function's or a file's name, of a patch's title and of what a compiler
says, and they reach the screen in many ways. All of them pass here. What a terminal would obey is written as an escape,
and so is what a runner of CI would obey: GitHub's `::command::` at the head of a line, and its and Azure's
`##[command]` anywhere in it. What this program itself tells a runner it writes as bytes, which do not pass here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vfio_verify.values.markup import visible

_HEAD = re.compile(r"^([^\S\n]*):", re.MULTILINE)
_HASHES = re.compile(r"##(?=\w*\[)")
_NO_BYTES = re.compile("[^\udca0-\udcff]+")
"""All but the bytes of a file's name that is not text, as Python holds them. Those below are controls of some
terminals."""


class Outlet:
    """A stream in another's place, to which it leaves everything but the writing of text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_at_head = True
        """Whether the present line has nothing but blanks so far."""
        self.rich_proxied_file = _Styled(self)
        """Rich writes here, since it looks for this name. Its texts are escaped before they are styled."""

    def write(self, text: str) -> int:
        self.write_styled(shown(text))
        return len(text)

    def write_styled(self, text: str) -> None:
        """Write a text whose escapes are this program's own."""
        if not text:
            return
        harmless = _HASHES.sub(r"#\\#", _HEAD.sub(self._harmless_head, text))
        last = text.rpartition("\n")
        self._is_at_head = not last[2].strip() and (bool(last[1]) or self._is_at_head)
        self._stream.write(harmless)

    def _harmless_head(self, found: re.Match[str]) -> str:
        return f"{found[1]}\\:" if found.start() or self._is_at_head else found[0]

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Styled:
    """The same stream for texts that have passed `shown` already, and were styled then."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    def write(self, text: str) -> int:
        self._outlet.write_styled(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outlet, name)


def shown(text: str) -> str:
    """Make a text `visible`, but leave the bytes of a file's name as they are."""
    return _NO_BYTES.sub(lambda found: visible(found[0]), text)


def harmless(text: str) -> str:
    """Make a text of whole lines safe to be printed by others."""
    return _HASHES.sub(r"#\\#", _HEAD.sub(r"\1\\:", shown(text)))


@contextmanager
def harmless_output() -> Iterator[None]:
    """Put both streams behind an outlet."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Outlet(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
