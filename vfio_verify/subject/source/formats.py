"""What the input is, told by its content: tracker page, JSON, mail, diff or C text."""

from __future__ import annotations

import email
import email.policy
import json
import re
import sys
from email.message import EmailMessage
from pathlib import Path

from msgspec import Struct

from vfio_verify.errors import InputError

LIMIT = 16 << 20  # bytes
_DIFF = re.compile(r"^(?:diff --git .*\n|--- \S.*\n\+\+\+ \S.*\n@@ -\d)", re.MULTILINE)
_MBOX = re.compile(r"^From \S[^\n]*\d\d:\d\d[^\n]*\n(?=[A-Za-z][A-Za-z-]*:|>From )", re.MULTILINE)
_HEADERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+(?=\n|\Z)")
_MAIL_HEADER = re.compile(r"^(?:Subject|From|Content-Type|Message-ID):", re.MULTILINE | re.IGNORECASE)
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+\d+", re.MULTILINE)
_HUNKS_FILE = re.compile(r"^(?:---|\+\+\+) ", re.MULTILINE)
_NUMBER = re.compile(r"\[[^\]]*?\b(?:v\d+\b[^\]]*?)?(\d+)/\d+\]")
_VERSION = re.compile(r"\[[^\]]*?\bv(\d+)\b")


class Patch(Struct, frozen=True):
    """One diff, and the subject line that it came with, if any."""

    title: str | None
    diff: str

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


def read_text(path: str) -> str:
    """The text of a file, or of standard input for "-": UTF-8, else Latin-1 (C files with old comments).

    Line ends become newlines. InputError says why the file cannot be read, or that it holds no text.
    """
    name = name_of(path)
    data = _read_bytes(path, name)
    if b"\0" in data or len(re.findall(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f]", data)) > len(data) // 100:
        raise InputError(f"{name} is a binary file, not text; give a patch, a mail or a C file")
    return _decoded(data)


def _decoded(data: bytes, charset: str = "latin-1") -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode(charset)
        except (LookupError, UnicodeDecodeError):
            text = data.decode("latin-1")
    return _with_newlines(text)


def _with_newlines(text: str) -> str:
    return re.sub(r"\r+\n", "\n", text)


def name_of(path: str) -> str:
    """What messages call the file at a path."""
    return "standard input" if path == "-" else path


def _read_bytes(path: str, name: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LIMIT + 1)
        elif Path(path).is_dir():
            raise InputError(f"{path} is a directory; give a patch, a mail or a C file")
        else:
            with open(path, "rb") as file:
                data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > LIMIT:
        raise InputError(
            f"{name} is larger than {LIMIT >> 20} MiB, the most that is read; give one patch or one C file"
        )
    return data


def interpret(text: str, name: str) -> list[Patch]:
    """The diffs in a text, in the order in which they apply; none if it is a C file.

    Raises InputError for a text that is neither.
    """
    stripped = text.lstrip()
    if not stripped:
        raise InputError(f"{name} is empty")
    if re.match(r"<!doctype|<html", stripped, re.IGNORECASE):
        raise InputError(f"{name} is a web page in HTML; save the patch's mbox, or its API page as text")
    if stripped[0] in "{[":
        return _from_json(stripped, name)
    page = re.search(r"^HTTP[ /][\d.]*\s*\d{3}\b.*$", text, re.MULTILINE)
    if page and (body := re.search(r"^[{\[]", text[page.end() :], re.MULTILINE)):
        return _from_json(text[page.end() + body.start() :], name)
    if _MBOX.match(stripped):
        return _from_mails(_MBOX.split(stripped)[1:], name)
    headers = _HEADERS.match(stripped)
    if headers and _MAIL_HEADER.search(headers[0]):
        return _from_mails([stripped], name)
    diff = _DIFF.search(text)
    # A C file may quote a diff in a comment.
    if diff and text.count("/*", 0, diff.start()) <= text.count("*/", 0, diff.start()):
        return [Patch(None, text[diff.start() :])]
    if _HUNK.search(text) and not _HUNKS_FILE.search(text):
        raise InputError(f"{name} holds hunks of a diff without the names of their files; give the whole diff")
    return []


def _from_json(text: str, name: str) -> list[Patch]:
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name} looks like JSON but is not: {error}") from None
    entries = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    patches = []
    for entry in entries:
        diff, title = entry.get("diff"), entry.get("name")
        if isinstance(diff, str) and diff.strip():
            patches.append(Patch(title if isinstance(title, str) else None, _with_newlines(diff)))
    if not patches:
        is_series = any("patches" in one for one in entries)
        hint = "a series' page holds none, its mbox does" if is_series else "give the page of one patch"
        raise InputError(f'{name} is JSON without a "diff"; {hint}')
    return _in_order(patches, name)


def _from_mails(mails: list[str], name: str) -> list[Patch]:
    patches = []
    for mail in mails:
        # Latin-1 cannot hold what UTF-8 can; bytes are what the parser of mails wants anyway.
        message = email.message_from_bytes(mail.encode("utf-8"), policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        title = _subject(message)
        body = "\n".join(_texts(message))
        begin = _DIFF.search(body)
        if begin and not re.match(r"(?:re|aw|fwd?)\s*:", title or "", re.IGNORECASE):
            patches.append(Patch(title, body[begin.start() :]))
    if not patches:
        raise InputError(f"{name}{' is a mail without' if len(mails) == 1 else ': none of its mails holds'} a diff")
    return _in_order(patches, name)


def _subject(message: EmailMessage) -> str | None:
    try:
        subject = message["Subject"]
    except (ValueError, LookupError, AttributeError, TypeError):  # headers made to break the email package
        return None
    return re.sub(r"\s+", " ", str(subject)).strip() if subject else None


def _texts(message: EmailMessage) -> list[str]:
    found = []
    for part in message.walk():
        kind, file_name = part.get_content_type(), part.get_filename() or ""
        is_text = kind.startswith("text/") or file_name.endswith((".patch", ".diff"))
        payload = part.get_payload(decode=True) if is_text and kind != "text/html" else None
        if isinstance(payload, bytes):
            found.append(_decoded(payload, part.get_content_charset() or "latin-1"))
    return found


def _in_order(patches: list[Patch], name: str) -> list[Patch]:
    """A series in the order of its numbers; a mailing list's archive may hold it in any."""
    versions = {patch.version for patch in patches if patch.version is not None}
    if len(versions) > 1:
        listed = ", ".join(f"v{version}" for version in sorted(versions))
        raise InputError(f"{name} holds several versions of a series ({listed}); give one of them")
    return sorted(patches, key=lambda patch: patch.number)
