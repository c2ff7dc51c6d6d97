"""What the input is, told by its content: tracker page, JSON, mail, diff or C text."""

from __future__ import annotations

import email
import email.policy
import json
import re
import sys
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from vfio_verify.errors import InputError

LIMIT = 16 << 20  # bytes
_DIFF = re.compile(r"^(?:diff --git .*\n|--- \S.*\n\+\+\+ \S.*\n@@ -\d)", re.MULTILINE)
_MBOX = re.compile(r"^From \S[^\n]*\d\d:\d\d[^\n]*\n(?=[A-Za-z][A-Za-z-]*:|>From )", re.MULTILINE)
_HEADERS = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+(?=\n|\Z)")
_NUMBER = re.compile(r"\[[^\]]*?\b(?:v(?P<version>\d+)\b[^\]]*?)?(?P<number>\d+)/\d+\]")
_VERSION = re.compile(r"\[[^\]]*?\bv(\d+)\b")


@dataclass(frozen=True)
class Patch:
    """One diff and the subject line it came with, if any."""

    title: str | None
    diff: str


@dataclass(frozen=True)
class CText:
    """The text of one C file."""

    text: str


def read_bytes(path: str) -> bytes:
    """The bytes of a file, or of standard input for "-". InputError says what is wrong with it."""
    name = "standard input" if path == "-" else path
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LIMIT + 1)
        else:
            if Path(path).is_dir():
                raise InputError(f"{path} is a directory; give a patch, a mail or a C file")
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
    if not data.strip():
        raise InputError(f"{name} is empty")
    return data


def decode(data: bytes, name: str) -> str:
    """UTF-8, else Latin-1 (C files with old comments). Line ends become newlines.

    Raises InputError for what is not text.
    """
    if b"\0" in data or len(re.findall(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f]", data)) > len(data) // 100:
        raise InputError(f"{name} is a binary file, not text; give a patch, a mail or a C file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return re.sub(r"\r+\n", "\n", text)


def interpret(text: str, name: str) -> list[Patch] | CText:
    """Tell what the text is, and take the diffs out of it. InputError if it is of no use."""
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
        bounds = [match.start() for match in _MBOX.finditer(stripped)]
        mails = [stripped[a:b] for a, b in zip(bounds, [*bounds[1:], None], strict=True)]
        return _from_mails([mail.split("\n", 1)[1] for mail in mails], name)
    headers = _HEADERS.match(stripped)
    if headers and re.search(
        r"^(?:Subject|From|Content-Type|Message-ID):", headers.group(), re.MULTILINE | re.IGNORECASE
    ):
        return _from_mails([stripped], name)
    if begin := _diff_start(text):
        return [Patch(None, text[begin.start() :])]
    if re.search(r"^@@ -\d+(?:,\d+)? \+\d+", text, re.MULTILINE) and not re.search(
        r"^(?:---|\+\+\+) ", text, re.MULTILINE
    ):
        raise InputError(f"{name} holds hunks of a diff without the names of their files; give the whole diff")
    return CText(text)


def _diff_start(text: str) -> re.Match[str] | None:
    match = _DIFF.search(text)
    if match and text.count("/*", 0, match.start()) > text.count("*/", 0, match.start()):
        return None  # a C file that quotes a diff in a comment
    return match


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
            patches.append(Patch(title if isinstance(title, str) else None, re.sub(r"\r+\n", "\n", diff)))
    if not patches:
        hint = (
            "a series' page holds none, its mbox does"
            if any("patches" in one for one in entries)
            else "give the page of one patch"
        )
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
        raise InputError(
            f"{name} is a mail without a diff" if len(mails) == 1 else f"{name}: none of its mails holds a diff"
        )
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
        if part.is_multipart() or not (kind.startswith("text/") or file_name.endswith((".patch", ".diff"))):
            continue
        if kind == "text/html":
            continue
        payload = part.get_payload(decode=True)
        if isinstance(payload, bytes):
            found.append(re.sub(r"\r+\n", "\n", _part_text(payload, part.get_content_charset() or "utf-8")))
    return found


def _part_text(payload: bytes, charset: str) -> str:
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return payload.decode(charset)
        except (LookupError, UnicodeDecodeError):
            return payload.decode("latin-1")


def _in_order(patches: list[Patch], name: str) -> list[Patch]:
    """A series in the order of its numbers; a mailing list's archive may hold it in any."""
    prefixed = [one.title for one in patches if one.title and one.title.startswith("[")]
    versions = {match.group(1) if (match := _VERSION.search(title)) else "1" for title in prefixed}
    if len(versions) > 1:
        listed = ", ".join(f"v{version}" for version in sorted(versions, key=int))
        raise InputError(f"{name} holds several versions of a series ({listed}); give one of them")

    def number(patch: Patch) -> int:
        match = _NUMBER.search(patch.title or "")
        return int(match.group("number")) if match else 0

    return sorted(patches, key=number)
