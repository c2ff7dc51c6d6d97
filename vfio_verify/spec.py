"""The clauses, read from ``specs/clauses.toml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec
from msgspec import Struct

Level = Literal["stated", "derived", "advice"]


class Clause(Struct, frozen=True, forbid_unknown_fields=True):
    """One rule: its id, what must hold, where it comes from, and what is looked at to judge it."""

    id: str
    level: Level
    rule: str
    source: str
    evidence: str
    tests: tuple[str, ...] = ()
    """Test functions that exercise it on the core."""
    subjects: tuple[str, ...] = ()
    """Files in tests/subjects/broken whose first line says that they violate it."""

    @property
    def fails_a_check(self) -> bool:
        return self.level != "advice"


class _Document(Struct, frozen=True, forbid_unknown_fields=True, tag_field="schema", tag="vfio-verify/spec@1"):
    clause: tuple[Clause, ...]


@cache
def clauses() -> dict[str, Clause]:
    """Every clause by its id, in the order of the document."""
    text = files("vfio_verify.specs").joinpath("clauses.toml").read_bytes()
    return {clause.id: clause for clause in msgspec.toml.decode(text, type=_Document).clause}
