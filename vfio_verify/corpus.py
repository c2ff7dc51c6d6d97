"""The corpus: cases that are kept, one JSON file each, named by their content.

An entry holds a case, and not what Hypothesis drew for it, so that it outlives any change of the generator. A file
appears whole or not at all: it is written without a name, and gets its name when its bytes are on the disk. So any
number of processes may write to one corpus, and be killed at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.case import Case, check
from vfio_verify.errors import InputError

SCHEMA = "vfio-verify/corpus@1"
_MAX_BYTES = 64 << 20
_DIGEST = 16
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""What open(2) answers where the file system has no O_TMPFILE."""


class Origin(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a case comes from: the subject that violated the clause, and the tool that found it."""

    subject: str
    clause: str
    cause: str = ""
    date: str = ""
    """Of the finding: YYYY-MM-DD."""
    version: str = ""
    """Of vfio_verify."""
    seed: int | None = None


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="schema", tag=SCHEMA):
    """A case that is kept. Without an origin it is kept for what it exercises, and no subject is known to fail it."""

    case: Case
    origin: Origin | None = None
    note: str = ""

    @property
    def clause(self) -> str | None:
        """The clause that the case was found to violate."""
        return None if self.origin is None else self.origin.clause

    @property
    def name(self) -> str:
        """Of its file: the clause, and a digest of the case. The same finding has the same name everywhere."""
        digest = hashlib.sha256(self.case.to_json()).hexdigest()[:_DIGEST]
        return f"{(self.clause or 'case').lower()}-{digest}.json"

    def to_json(self) -> bytes:
        """Indented, one segment or fault a line, with the keys in a fixed order: to be read in a diff."""
        return _laid_out(msgspec.to_builtins(self)).encode() + b"\n"


_decoder = msgspec.json.Decoder(Entry)


def read_entry(data: bytes, name: str) -> Entry:
    """Read an entry of this schema or of an older one. InputError says in which file what is wrong."""
    try:
        raw = msgspec.json.decode(data)
        entry = msgspec.convert(migrated(raw), Entry)
        for case in (entry.case, *entry.case.earlier):
            check(case)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError) as error:
        raise InputError(f"{name} is no corpus entry: {error}") from error
    except InputError as error:
        raise InputError(f"{name} is no corpus entry: {error}") from error
    return entry


# ---- older schemas ---------------------------------------------------------------------------------------------


def _from_bare_case(raw: dict[str, Any]) -> dict[str, Any]:
    """What a report prints for --case."""
    return {"schema": SCHEMA, "case": raw}


def _from_violation(raw: dict[str, Any]) -> dict[str, Any]:
    """An entry of a report's violations, as people keep them."""
    return {
        "schema": SCHEMA,
        "case": raw["case"],
        "origin": {"subject": "", "clause": raw["clause"]},
        "note": raw.get("summary", ""),
    }


MIGRATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"vfio-verify/case@1": _from_bare_case}
"""From an older schema to a newer one, by the schema that is found; applied until the present one is reached."""


def migrated(raw: Any) -> Any:
    """The raw JSON of an entry, brought to the present schema. What is none is left for the decoder to refuse."""
    if isinstance(raw, dict) and "schema" not in raw and {"clause", "case", "evidence"} <= raw.keys():
        raw = _from_violation(raw)
    for _ in range(len(MIGRATIONS)):
        step = MIGRATIONS.get(raw.get("schema")) if isinstance(raw, dict) else None
        if step is None:
            break
        raw = step(raw)
    return raw


# ---- directories of entries --------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """An entry and the file that holds it."""

    path: Path
    entry: Entry


def entry_paths(place: Path) -> Iterator[Path]:
    """The files of a corpus: a directory's .json files, at any depth and in order, or one file. InputError if there is
    none."""
    if place.is_dir():
        found = sorted(path for path in place.rglob("*.json") if path.is_file())
        if not found:
            raise InputError(f"there are no cases in {place}")
        yield from found
    elif place.exists():
        yield place
    else:
        raise InputError(f"there is no corpus {place}")


def load(place: Path) -> Iterator[Stored]:
    """Every entry of a corpus. Raises InputError at the first file that cannot be used."""
    for path in entry_paths(place):
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise InputError(f"{path} is no corpus entry: larger than {_MAX_BYTES} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        yield Stored(path, read_entry(data, str(path)))


def store(directory: Path, entry: Entry) -> Path | None:
    """Keep an entry; when this returns, it is on the disk. None if it is there already. Raises InputError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            written = _write_whole(place, entry.name, entry.to_json())
            os.fsync(place)
        finally:
            os.close(place)
    except OSError as error:
        raise InputError(f"cannot write to the corpus {directory}: {error.strerror}") from error
    return directory / entry.name if written else None


def _write_whole(place: int, name: str, data: bytes) -> bool:
    """Write a file that appears in a directory with all its bytes or not at all. False if it is there already."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=place)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return _write_renamed(place, name, data)
    try:
        _write_all(fd, data)
        # open(2), O_TMPFILE: the way to name such a file that needs no privilege.
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=place, follow_symlinks=True)
    except FileExistsError:
        return False
    finally:
        os.close(fd)
    return True


def _write_renamed(place: int, name: str, data: bytes) -> bool:
    """The same on a file system without unnamed files: a kill may leave a file beside it, which no corpus reads."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=place)
    try:
        _write_all(fd, data)
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except FileExistsError:
        return False
    finally:
        os.close(fd)
        os.unlink(temporary, dir_fd=place)
    return True


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fsync(fd)


def with_note(entry: Entry, note: str) -> Entry:
    """The entry with another note; its name stays."""
    return replace(entry, note=note)


# ---- layout -----------------------------------------------------------------------------------------------------


def _laid_out(value: Any, indent: int = 0) -> str:
    """JSON with what is small on one line, and one line for each member of what is not."""
    flat = msgspec.json.encode(value).decode()
    if not isinstance(value, dict | list | tuple) or not value:
        return flat
    spaced = _spaced(value)
    if indent + len(spaced) <= 100 and not _nested(value):
        return spaced
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [
            f"{pad}{msgspec.json.encode(key).decode()}: {_laid_out(part, indent + 1)}" for key, part in value.items()
        ]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + _laid_out(part, indent + 1) for part in value) + "\n" + " " * indent + "]"


def _nested(value: Any) -> bool:
    """Does it hold what is worth a line of its own?"""
    parts = value.values() if isinstance(value, dict) else value
    return any(isinstance(part, dict | list | tuple) and part for part in parts)


def _spaced(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{msgspec.json.encode(k).decode()}: {_spaced(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_spaced, value)) + "]"
    return msgspec.json.encode(value).decode()
