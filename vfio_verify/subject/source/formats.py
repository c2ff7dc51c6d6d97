"""What an input is, told by its content: a page, JSON, mails, a log, a diff or C text."""

from __future__ import annotations

import re

from vfio_verify.errors import InputError
from vfio_verify.subject.source import diff, log, mail, order, page
from vfio_verify.subject.source.diff import Patch

_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+", re.MULTILINE)
_HUNKS_FILE = re.compile(r"^(?:---|\+\+\+) ", re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[\d;]*[mK]")


def interpret(text: str, name: str) -> list[Patch]:
    """The diffs in a text; none if it is a C file. They are to be put in order, but for a log's, which are.

    Raises InputError for a text that is neither.
    """
    stripped = text.lstrip()
    if not stripped:
        raise InputError(f"{name} is empty")
    if page.is_html(stripped):
        return page.from_html(stripped, name)
    if (found := page.json_in(text)) is not None:
        return page.from_json(found, name)
    plain = _COLOUR.sub("", text)
    if mails := mail.split(plain.lstrip()):
        return mail.patches_of(mails, name)
    if commits := log.commits_of(plain.lstrip()):
        return order.commits_in_order(commits, name)
    begin = diff.BEGIN.search(plain)
    # A C file may quote a diff in a comment.
    if begin and plain.count("/*", 0, begin.start()) <= plain.count("*/", 0, begin.start()):
        return [Patch(None, plain[begin.start() :])]
    if _HUNK.search(plain) and not _HUNKS_FILE.search(plain):
        raise InputError(f"{name} holds hunks of a diff without the names of their files; give the whole diff")
    return []
