"""The corpus: cases that are kept, one JSON file each, named by their content.

An entry holds a case, and not what Hypothesis drew for it, so that it outlives any change of the generator. A file
appears whole or not at all: it is written without a name, and gets its name when its bytes are on the disk. So any
number of processes may write to one corpus, and be killed at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
from msgspec import Meta, Struct

from vfio_verify import __version__
from vfio_verify.errors import InputError
from vfio_verify.values.case import Case, Policy, check, why_no_pages
from vfio_verify.values.markup import encodable

SCHEMA = "vfio-verify/corpus@1"
_MAX_BYTES = 64 << 20
_DIGEST, _LINE = 16, 100
_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""What open(2) answers where the file system has no O_TMPFILE, and linkat(2) where there is no /proc."""

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Origin(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a case comes from: the subject that violated the clause, and the tool that found it."""

    subject: str
    clause: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]*$", max_length=40)]
    cause: str = ""
    date: Annotated[str, Meta(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")] = ""
    """Of the finding: YYYY-MM-DD, in UTC."""
    version: str = ""
    """Of vfio_verify."""
    seed: int | None = None
    policy: Policy = "same-block"
    """By which it was judged."""


class Entry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="schema", tag=SCHEMA):
    """A case that is kept. Without an origin it is kept for what it exercises, and no subject is known to fail it."""

    case: Case
    origin: Origin | None = None
    note: str = ""
    lines: tuple[str, ...] = ()
    """Lines of a subject that this case was the first to reach: `device.c:779`."""

    @property
    def clause(self) -> str | None:
        """The clause that the case was found to violate."""
        return None if self.origin is None else self.origin.clause

    @property
    def policy(self) -> Policy:
        """Which segments may share a dmabuf, as it was when the case was found."""
        return "same-block" if self.origin is None else self.origin.policy

    @property
    def name(self) -> str:
        """Of its file: the clause, and a digest of the case and its policy. The same finding has the same name
        everywhere."""
        by = b"" if self.policy == "same-block" else self.policy.encode()
        digest = hashlib.sha256(self.case.to_json() + by).hexdigest()[:_DIGEST]
        # An entry may come from anywhere: nothing in it may lead out of the directory.
        return f"{re.sub('[^a-z0-9_]', '_', (self.clause or 'case').lower())}-{digest}.json"

    def to_json(self) -> bytes:
        """Indented, one segment or fault a line, with the keys in a fixed order: to be read in a diff."""
        return _laid_out(msgspec.to_builtins(self)).encode() + b"\n"


_decoder = msgspec.json.Decoder(Entry)


def found(
    subject: str, clause: str, cause: str, case: Case, *, seed: int | None, policy: Policy = "same-block"
) -> Entry:
    """An entry for a violation that this version has just found."""
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return Entry(case, Origin(encodable(subject), clause, cause, date, __version__, seed, policy))


def read_entry(data: bytes, name: str) -> Entry:
    """Read an entry of this schema or of an older one, or a bare case, or a violation as a report has it.

    A case for pages of another size is read, and not checked further: it cannot be run here. InputError says in which
    file what is wrong.
    """
    try:
        try:
            entry = _decoder.decode(data)
        except msgspec.ValidationError:
            entry = msgspec.convert(migrated(msgspec.json.decode(data)), Entry)
        if why_no_pages(entry.case) is None:
            check(entry.case)
    except (msgspec.DecodeError, UnicodeError, RecursionError, InputError) as error:
        raise InputError(f"{name} is no corpus entry: {error}") from error
    return entry


# ---- older schemas ---------------------------------------------------------------------------------------------

Raw = dict[str, Any]
Step = Callable[[Raw], Raw]


def _from_bare_case(raw: Raw) -> Raw:
    """What a report prints for --case."""
    return {"schema": SCHEMA, "case": raw}


def _from_violation(raw: Raw) -> Raw:
    """An entry of a report's violations, as people keep them."""
    return {
        "schema": SCHEMA,
        "case": raw["case"],
        "origin": {"subject": "", "clause": raw["clause"]},
        "note": raw.get("summary", ""),
    }


MIGRATIONS: dict[str, Step] = {}
"""From an older schema of entries to the next newer one, by the schema that is found."""

CASE_MIGRATIONS: dict[str, Step] = {}
"""The same for the cases that entries hold, and for the earlier ones that these hold."""


def migrated(raw: Any) -> Any:
    """The raw JSON of an entry, brought to the present schema. What is none is left for the decoder to refuse."""
    if not isinstance(raw, dict):
        return raw
    if "schema" not in raw and {"clause", "case", "evidence"} <= raw.keys():
        raw = _from_violation(raw)
    elif str(raw.get("schema")).startswith("vfio-verify/case@"):
        raw = _from_bare_case(raw)
    raw = _stepped(raw, MIGRATIONS)
    return {**raw, "case": _migrated_case(raw["case"])} if "case" in raw else raw


def _migrated_case(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    raw = _stepped(raw, CASE_MIGRATIONS)
    earlier = raw.get("earlier")
    return {**raw, "earlier": [*map(_migrated_case, earlier)]} if isinstance(earlier, list) else raw


def _stepped(raw: Raw, steps: dict[str, Step]) -> Raw:
    """Each step at most once: none leads back."""
    for _ in range(len(steps)):
        schema = raw.get("schema")
        if not isinstance(schema, str) or schema not in steps:
            break
        try:
            raw = steps[schema](raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"it does not have what {schema} must have: {error!r}") from error
    return raw


# ---- directories of entries --------------------------------------------------------------------------------------


class Stored(NamedTuple):
    """An entry and the file that holds it."""

    path: Path
    entry: Entry


def entry_paths(place: Path) -> Iterator[Path]:
    """The files of a corpus: a directory's .json files, at any depth and in order, or one file. What is hidden is not
    read. InputError if there is none, or a directory that cannot be read."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error

    if place.is_file() or place.is_fifo() or place.is_char_device():
        yield place
        return
    if not place.is_dir():
        raise InputError(f"there is no corpus {place}")
    paths = []
    for directory, inside, files in os.walk(place, onerror=refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        names = [name for name in files if name.endswith(".json") and not name.startswith(".")]
        paths += [path for path in (Path(directory, name) for name in names) if path.is_file()]
    if not paths:
        raise InputError(f"there are no cases in {place}")
    yield from sorted(paths)


def load(place: Path) -> Iterator[Stored]:
    """Every entry of a corpus. Raises InputError at the first file that cannot be used."""
    try:
        for path in entry_paths(place):
            if path.stat().st_size > _MAX_BYTES:
                raise InputError(f"{path} is no corpus entry: larger than {_MAX_BYTES} bytes")
            yield Stored(path, read_entry(path.read_bytes(), str(path)))
    except OSError as error:
        raise InputError(f"cannot read {error.filename or place}: {error.strerror}") from error


def store(directory: Path, entry: Entry) -> Path | None:
    """Keep an entry; when this returns, it is on the disk. None if it is there already. Raises InputError."""
    path = directory / entry.name
    try:
        _make_directory(directory)
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            written = _write_whole(place, entry.name, entry.to_json())
            os.fsync(place)
        finally:
            os.close(place)
        if written:
            return path
        known = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot write to the corpus {directory}: {error.strerror}") from error
    if read_entry(known, str(path)).case != entry.case:
        raise InputError(f"{path} does not hold the case that it is named by")
    return None


def _make_directory(directory: Path) -> None:
    """Make a directory that a crash of the machine does not take away again."""
    if directory.is_dir():
        return
    if directory.parent != directory:
        _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    above = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


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
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return _write_renamed(place, name, data)
    finally:
        os.close(fd)
    return True


def _write_renamed(place: int, name: str, data: bytes) -> bool:
    """The same on a file system without unnamed files: a kill may leave a file beside it, which no corpus reads."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=place)
    try:
        _write_all(fd, data)
        return _named(place, temporary, name)
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):  # it has been renamed
            os.unlink(temporary, dir_fd=place)


def _named(place: int, temporary: str, name: str) -> bool:
    """Give a written file its name, too. False if there is one of that name."""
    try:
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links a name is taken over: by the same case, whoever else writes it at this moment.
        if name in os.listdir(place):
            return False
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    return True


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fsync(fd)


# ---- layout -----------------------------------------------------------------------------------------------------


def _laid_out(value: Any, indent: int = 0) -> str:
    """JSON with what is small on one line, and one line for each member of what is not."""
    if not isinstance(value, dict | list | tuple) or not value:
        return _flat(value)
    if isinstance(value, dict) and not _nested(value) and indent + len(spaced := _spaced(value)) <= _LINE:
        return spaced
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{pad}{_flat(key)}: {_laid_out(part, indent + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + _laid_out(part, indent + 1) for part in value) + "\n" + " " * indent + "]"


def _nested(value: Raw) -> bool:
    """Does it hold what is worth a line of its own?"""
    return any(isinstance(part, dict | list | tuple) and part for part in value.values())


def _spaced(value: Raw) -> str:
    return "{" + ", ".join(f"{_flat(key)}: {_flat(part)}" for key, part in value.items()) + "}"


def _flat(value: Any) -> str:
    return msgspec.json.encode(value).decode()
