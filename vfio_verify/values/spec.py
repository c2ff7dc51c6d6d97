"""The clauses, read from ``specs/clauses.toml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from vfio_verify.values.cause import is_of_kind

Level = Literal["stated", "derived", "advice"]
Severity = Literal["critical", "high", "medium", "low", "note"]
"""From the gravest on; specs/clauses.toml says what each means."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


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

    proof: str = ""
    """What a proof of it takes into account, if the model in C decides it."""

    severity: Severity = "low"
    """The severity of a violation that the caller's input alone brings about."""
    after_fault: Severity | None = None
    """The severity of one for which a step has to fail, if it differs."""
    severities: dict[str, Severity] = {}
    """The severity of each kind of cause that is graver or lighter than the rest."""

    def severity_of(self, cause: str, *, faulty: bool) -> Severity:
        """How grave a violation by this cause is; `faulty`: a step had to fail for it."""
        for kind, severity in self.severities.items():
            if is_of_kind(cause, kind):
                return severity
        return self.after_fault if faulty and self.after_fault is not None else self.severity

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
