"""The commits in what `git log -p` and `git show` print."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from vfio_verify.subject.source import diff
from vfio_verify.subject.source.diff import Patch

_COMMIT = re.compile(r"^commit [0-9a-f]{7,64}(?: [^\n]*)?\n", re.MULTILINE)
_DATE = re.compile(r"^(?:Author)?Date:\s+(.*)$", re.MULTILINE)
_TITLE = re.compile(r"^    (\S.*)$", re.MULTILINE)


def commits_of(text: str) -> list[Patch]:
    """The commits of a log that have a diff, as they come; none if the text is no log."""
    if not _COMMIT.match(text):
        return []
    found = []
    for commit in _COMMIT.split(text)[1:]:
        if changes := diff.begun(commit):
            head = commit[: -len(changes)]
            title, date = _TITLE.search(head), _DATE.search(head)
            found.append(Patch(title[1] if title else None, changes, _seconds(date[1]) if date else None))
    return found


def _seconds(written: str) -> float | None:
    """A date as git writes it: by default, in RFC 2822, in ISO 8601, or as a number."""
    from email.utils import parsedate_to_datetime  # most subjects are no log

    for read in (_default, parsedate_to_datetime, _iso, _raw):
        try:
            return read(written.strip()).timestamp()
        except (ValueError, OverflowError, OSError, TypeError):
            continue
    return None


def _default(written: str) -> datetime:
    return datetime.strptime(written, "%a %b %d %H:%M:%S %Y %z")


def _iso(written: str) -> datetime:
    return datetime.fromisoformat(re.sub(r" ([+-]\d\d)(\d\d)$", r"\1:\2", written))


def _raw(written: str) -> datetime:
    return datetime.fromtimestamp(int(written.partition(" ")[0]), UTC)
