"""The diffs in mails: one mail, an mbox, or mails one after the other. Undoes format=flowed, and takes off quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from email.errors import MessageError
from itertools import pairwise
from typing import TYPE_CHECKING

from vfio_verify.errors import InputError
from vfio_verify.subject.source import diff, raw
from vfio_verify.subject.source.diff import Patch, WithoutDiffError

if TYPE_CHECKING:
    from email.message import EmailMessage

_MBOX = re.compile(r"^From \S[^\n]*\d\d:\d\d[^\n]*\n(?=[A-Za-z][A-Za-z-]*:|>From )", re.MULTILINE)
_HEADERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+(?=\n|\Z)")
_MAIL_HEADER = re.compile(r"^(?:Subject|From|Content-Type|Message-ID):", re.MULTILINE | re.IGNORECASE)
_NEXT_MAIL = re.compile(r"(?<=\n\n)(?=[A-Za-z][A-Za-z0-9-]*: )")
_REPLY = re.compile(r"(?:re|aw|fwd?)\s*:", re.IGNORECASE)
_BROKEN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    MessageError,
)
"""What headers made to break the email package make it raise."""
_PARSED = re.compile(
    r"^(?:(Content-[\w-]+|MIME-Version):[^\n]*+(?:\n[ \t][^\n]*+)*+|(Subject|Date):[^\n]*+)",
    re.MULTILINE | re.IGNORECASE,
)
_LONGEST_HEADER = 2000
"""Characters: the time that the email package takes to parse one grows with their square."""
_INSERTIONS = re.compile(r"^ ?\d+ files? changed, (\d+) insertion", re.MULTILINE)


def split(text: str) -> list[str]:
    """The mails of a text; none if it is no mail."""
    if _MBOX.match(text):
        return _MBOX.split(text)[1:]
    headers = _HEADERS.match(text)
    if not headers or not _MAIL_HEADER.search(headers[0]):
        return []
    begins = [0, *(match.start() for match in _NEXT_MAIL.finditer(text) if _begins_mail(text, match.start())), None]
    return [text[begin:end] for begin, end in pairwise(begins)]


def _begins_mail(text: str, at: int) -> bool:
    """Whether a mail's own headers begin there, and not the line `From:` by which a patch names its author."""
    headers = _HEADERS.match(text, at)
    names = {line.partition(":")[0].lower() for line in headers[0].split("\n")} if headers else set()
    return {"from", "subject"} <= names and bool(names & {"date", "message-id", "to", "received", "mime-version"})


def patches_of(mails: list[str], name: str) -> list[Patch]:
    """The patches of mails, as they come. What replies hold counts if nothing else does; what they quote comes last.

    Raises InputError if there is none, or one is quoted only in part.
    """
    from email import message_from_bytes, policy  # most subjects are no mail

    sent: list[Patch] = []
    in_replies: list[Patch] = []
    quoted: list[Patch] = []
    trimmed: list[Patch] = []
    for number, mail in enumerate(mails, 1):
        try:
            _refuse_long_headers(mail)
            # Latin-1 cannot hold what UTF-8 can; bytes are what the parser of mails wants anyway.
            message = message_from_bytes(mail.encode("utf-8"), policy=policy.default)
            title, date, body = _subject(message), _date(message), _body(message)
        except _BROKEN as error:
            which = f"mail {number}" if len(mails) > 1 else "the mail"
            raise InputError(f"{name}: the headers of {which} cannot be read: {error}") from None
        answers = _REPLY.match(title or "")
        if found := diff.begun(body):
            (in_replies if answers else sent).append(Patch(title, found, date))
            continue
        body = _unquoted(body)
        if found := diff.begun(body):
            title = title[answers.end() :].strip() if title and answers else title
            (quoted if _is_whole(body, found) else trimmed).append(Patch(title, found, date))
    patches = sent or in_replies
    if not patches:
        titles = {patch.title for patch in quoted}
        if any(patch.title not in titles for patch in trimmed):
            raise InputError(f"{name} only quotes a patch, and not all of it; give the patch itself")
        patches = list({patch.title: patch for patch in quoted}.values())
    if not patches:
        raise WithoutDiffError(
            f"{name}{' is a mail without' if len(mails) == 1 else ': none of its mails holds'} a diff"
        )
    return patches


def _unquoted(body: str) -> str:
    """What a reply quotes: as often as is needed, the lines that begin with `>`, without it."""
    while not diff.BEGIN.search(body) and (lines := [line for line in body.split("\n") if line.startswith(">")]):
        body = "\n".join(line[1:].removeprefix(" ") for line in lines)
    return body


def _refuse_long_headers(mail: str) -> None:
    """Raise ValueError for a header that takes long to parse."""
    for header in _PARSED.finditer(mail):
        if len(header[0]) > _LONGEST_HEADER:
            raise ValueError(f"{header[1] or header[2]} has {len(header[0]):,} characters")


def _is_whole(body: str, found: str) -> bool:
    """Whether a quoted diff has all its lines: those that its hunks announce, and those of its diffstat."""
    if not diff.is_readable(found):
        return False
    told = _INSERTIONS.search(body)
    return not told or int(told[1]) == sum(file.added for file in diff.parse(found, ""))


def _subject(message: EmailMessage) -> str | None:
    try:
        subject = message["Subject"]
    except _BROKEN:
        return None
    return re.sub(r"\s+", " ", str(subject)).strip() if subject else None


def _date(message: EmailMessage) -> float | None:
    try:
        date = message["Date"].datetime
        return date.timestamp() if isinstance(date, datetime) else None
    except _BROKEN:
        return None


def _body(message: EmailMessage) -> str:
    return "\n".join(_texts(message))


def _texts(message: EmailMessage) -> Iterator[str]:
    for part in message.walk():
        kind, file_name = part.get_content_type(), part.get_filename() or ""
        is_text = kind.startswith("text/") or file_name.endswith((".patch", ".diff"))
        payload = part.get_payload(decode=True) if is_text and kind != "text/html" else None
        if isinstance(payload, bytes):
            text = raw.decoded(payload, part.get_content_charset() or "latin-1")
            is_flowed = str(part.get_param("format", "")).lower() == "flowed"
            yield _fixed(text, str(part.get_param("delsp", "")).lower() == "yes") if is_flowed else text


def _fixed(text: str, delete_space: bool) -> str:
    """The lines as they were before format=flowed (RFC 3676): unwrapped, and without the space put before some.

    Many mailers say that a text is flowed and leave a patch as it is, or only put spaces: what can be read is taken.
    """
    unstuffed = [line.removeprefix(" ") for line in text.split("\n")]
    joined: list[str] = []
    goes_on = False
    for line in unstuffed:
        soft = line.endswith(" ") and line != "-- "
        piece = line[:-1] if soft and delete_space else line
        joined[-1:] = [joined[-1] + piece] if goes_on else [*joined[-1:], piece]
        goes_on = soft
    for one in (text, "\n".join(joined), "\n".join(unstuffed)):
        if (found := diff.begun(one)) and diff.is_readable(found):
            return one
    return text
