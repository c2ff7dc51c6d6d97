"""A kept case: what its file holds, and how that is written and read.

An entry holds a case, not what Hypothesis drew for it, so that it outlives any change of the generator.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, NamedTuple

import msgspec
from msgspec import Meta, Struct

from vfio_verify import __version__
from vfio_verify.errors import InputError
from vfio_verify.values.case import Case, Policy, check, why_no_pages
from vfio_verify.values.markup import encodable, shortened

SCHEMA = "vfio-verify/corpus@1"
_MAX_BYTES = 64 << 20
_DIGEST, _LINE = 16, 100


class Origin(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a case comes from: the subject that violated the clause, and the tool that found it."""

    subject: str
    clause: Annotated[str, Meta(pattern="^[A-Z][A-Z0-9_]*$", max_length=40)]
    cause: str = ""
    date: Annotated[str, Meta(pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")] = ""
    """The day of the finding, in UTC: YYYY-MM-DD."""
    version: str = ""
    """The version of vfio_verify."""
    seed: int | None = None
    policy: Policy = "same-block"
    """The policy by which it was judged."""


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
        """The policy under which the case was found."""
        return "same-block" if self.origin is None else self.origin.policy

    @property
    def name(self) -> str:
        """The name of its file: the clause, and a digest of the case and its policy. The same finding has the same name
        everywhere."""
        by = b"" if self.policy == "same-block" else self.policy.encode()
        digest = hashlib.sha256(self.case.to_json() + by).hexdigest()[:_DIGEST]
        # An entry may come from anywhere: nothing in it may lead out of the directory.
        return f"{re.sub('[^a-z0-9_]', '_', (self.clause or 'case').lower())}-{digest}.json"

    def to_json(self) -> bytes:
        """Indented, one segment or fault a line, with the keys in a fixed order: to be read in a diff."""
        return _laid_out(msgspec.to_builtins(self)).encode() + b"\n"


class Kept(NamedTuple):
    """An entry, and where it is: the name of its file, or its name in the server."""

    place: str
    entry: Entry


def found(
    subject: str, clause: str, cause: str, case: Case, *, seed: int | None, policy: Policy = "same-block"
) -> Entry:
    """Make an entry for a violation that this version has just found."""
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return Entry(case, Origin(encodable(subject), clause, cause, date, __version__, seed, policy))


_decoder = msgspec.json.Decoder(Entry | Case)


def read_entry(data: bytes, name: str) -> Entry:
    """Read an entry, a bare case as a report prints it, or a violation as a report in JSON has it.

    A case for pages of another size is read, but not checked further: it cannot be run here. Raises InputError, which
    says what is wrong in `name`.
    """
    try:
        entry = _decoded(data)
        if why_no_pages(entry.case) is None:
            check(entry.case)
    except (msgspec.DecodeError, UnicodeError, RecursionError, InputError) as error:
        raise InputError(f"{name} is not a corpus entry: {shortened(str(error))}") from error
    return entry


def _decoded(data: bytes) -> Entry:
    try:
        read = _decoder.decode(data)
    except msgspec.ValidationError:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict) or "schema" in raw or not {"clause", "case", "evidence"} <= raw.keys():
            raise
        origin = {"subject": "", "clause": raw["clause"]}
        entry = {"schema": SCHEMA, "case": raw["case"], "origin": origin, "note": raw.get("summary", "")}
        return msgspec.convert(entry, Entry)
    return read if isinstance(read, Entry) else Entry(read)


def read_bytes(file: BinaryIO, name: str) -> bytes:
    """What a file holds, which may be a pipe or a device. Raises InputError for more bytes than any entry has."""
    data = file.read(_MAX_BYTES + 1)
    refuse_too_large(len(data), name)
    return data


def refuse_too_large(size: int, name: str) -> None:
    """Raise InputError if what is called `name` has more bytes than any entry."""
    if size > _MAX_BYTES:
        raise InputError(f"{name} is not a corpus entry: larger than {_MAX_BYTES} bytes")


# ---- layout -----------------------------------------------------------------------------------------------------


def _laid_out(value: Any, indent: int = 0) -> str:
    """JSON in which a small value is on one line, and each member of a large one on its own."""
    if not isinstance(value, dict | list | tuple) or not value:
        return _flat(value)
    if isinstance(value, dict) and not _nested(value) and indent + len(spaced := _spaced(value)) <= _LINE:
        return spaced
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        inner = [f"{pad}{_flat(key)}: {_laid_out(part, indent + 1)}" for key, part in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + _laid_out(part, indent + 1) for part in value) + "\n" + " " * indent + "]"


def _nested(value: dict[str, Any]) -> bool:
    """Whether it holds something worth a line of its own."""
    return any(isinstance(part, dict | list | tuple) and part for part in value.values())


def _spaced(value: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{_flat(key)}: {_flat(part)}" for key, part in value.items()) + "}"


def _flat(value: Any) -> str:
    return msgspec.json.encode(value).decode()
