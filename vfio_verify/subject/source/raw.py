"""The text of what the user named: a file, standard input or an address; unpacked and decoded."""

from __future__ import annotations

import codecs
import lzma
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfio_verify.errors import InputError

LIMIT = 16 << 20  # bytes
_XZ_MEMORY = 128 << 20  # bytes; more than `xz -9` asks for
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
_MESSAGE_ID = re.compile(r"<[^<>@\s/]+@[^<>@\s/]+>|[^<>@\s/]+@[^<>@\s/]+\.[^<>@\s/]+")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SERIES_SUFFIXES = frozenset((".patch", ".diff", ".eml", ".mbox", ".mbx", ".txt", ".gz", ".xz", ""))
_MOST_FILES = 1000


def read_text(path: str) -> str:
    """The text at a path or an address, or of standard input for "-": UTF-8, UTF-16 with its mark, else Latin-1 (C
    files with old comments). What gzip or xz made is unpacked.

    Line ends become newlines. InputError says why the file cannot be read, or that it holds no text.
    """
    name = name_of(path)
    data = _unpacked(_data(path, name), name)
    if data.startswith(_WIDE):
        return with_newlines(data.decode("utf-16", "replace"))
    if data.startswith(b"\x7fELF"):
        raise InputError(f"{name} is a binary file; give a C file that calls it, and --link {name}")
    if b"\0" in data or len(re.findall(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f]", data)) > len(data) // 100:
        raise InputError(f"{name} is a binary file, not text; give a patch, a mail or a C file")
    return decoded(data)


@contextmanager
def read_once() -> Iterator[None]:
    """Within it, standard input and addresses are read once, and what they held is remembered."""
    global _remembered  # noqa: PLW0603
    _remembered = {}
    try:
        yield
    finally:
        _remembered = None


_remembered: dict[str, bytes] | None = None


def _data(path: str, name: str) -> bytes:
    if _remembered is not None and path in _remembered:
        return _remembered[path]
    data = _fetched(path) if _is_address(path) else _read_bytes(path, name)
    if _remembered is not None and not os.path.lexists(path):
        _remembered[path] = data
    return data


def decoded(data: bytes, charset: str = "latin-1") -> str:
    """UTF-8, else the given encoding, else Latin-1."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode(charset)
        except (LookupError, UnicodeDecodeError):
            text = data.decode("latin-1")
    return with_newlines(text)


def with_newlines(text: str) -> str:
    """The text with its line ends as newlines."""
    return re.sub(r"\r+\n", "\n", text)


def name_of(path: str) -> str:
    """What messages call the file at a path."""
    return "standard input" if path == "-" else path


def files_in(directory: Path) -> list[str]:
    """The files of a folder that may hold patches, by their names; numbers in names count as numbers."""
    if (directory / ".git").exists() or (directory / "Kconfig").exists():
        raise InputError(
            f"{directory} is a source tree; give it as --tree {directory}, and a patch or C file as SUBJECT"
        )
    try:
        found = [path for path in directory.iterdir() if path.suffix in _SERIES_SUFFIXES and path.is_file()]
    except OSError as error:
        raise InputError(f"{directory}: cannot be read: {error.strerror}") from None
    if len(found) > _MOST_FILES:
        raise InputError(f"{directory} is a directory of {len(found):,} files; give the patches of one series")
    visible = [path for path in found if not path.name.startswith(".")]
    if not visible:
        raise InputError(f"{directory} is a directory without patches; give a patch, a mail or a C file")
    return [str(path) for path in sorted(visible, key=lambda path: _natural(path.name))]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d{0,18})(\D*)", name)]


def _is_address(path: str) -> bool:
    """Whether what the user named is an address or a message-id, and no file."""
    return bool(_ADDRESS.match(path)) or bool(_MESSAGE_ID.fullmatch(path) and not os.path.lexists(path))


def _fetched(address: str) -> bytes:
    from vfio_verify.subject.fetch import fetch  # what it imports is slow to load

    return fetch(address, LIMIT)


def _read_bytes(path: str, name: str) -> bytes:
    try:
        if path == "-":
            data = sys.stdin.buffer.read(LIMIT + 1)
        elif os.path.isdir(path):
            raise InputError(f"{path} is a directory; give a patch, a mail or a C file")
        else:
            with open(path, "rb") as file:
                data = file.read(LIMIT + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    refuse_large(data, name)
    return data


def refuse_large(data: bytes, name: str) -> None:
    """Raise InputError for more than the limit."""
    if len(data) > LIMIT:
        raise InputError(
            f"{name} is larger than {LIMIT >> 20} MiB, the most that is read; give one patch or one C file"
        )


def _unpacked(data: bytes, name: str) -> bytes:
    """What is in a file that gzip or xz has made; other data as it is."""
    try:
        if data.startswith(b"\x1f\x8b"):
            data = _gunzipped(data)
        elif data.startswith(b"\xfd7zXZ\0"):
            data = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY).decompress(data, LIMIT + 1)
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise InputError(f"{name} cannot be unpacked: {error}") from None
    refuse_large(data, f"{name}, unpacked,")
    return data


def _gunzipped(data: bytes) -> bytes:
    unpacked = b""
    while data.startswith(b"\x1f\x8b") and len(unpacked) <= LIMIT:  # an archive may be several, one after the other
        one = zlib.decompressobj(wbits=31)
        unpacked += one.decompress(data, LIMIT + 1 - len(unpacked))
        if not one.eof and len(unpacked) <= LIMIT:
            raise EOFError("it ends too early")
        data = one.unused_data
    return unpacked
