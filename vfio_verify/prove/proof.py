"""What was decided of a subject, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from vfio_verify.judge import Violation
from vfio_verify.prove.real_runs import Disagreement
from vfio_verify.values.spec import clauses
from vfio_verify.worker.sandbox import SandboxFeature

OUT_OF_TIME, OUT_OF_MEMORY, INTERRUPTED = "out of time", "out of memory", "interrupted"
DISAGREE, NO_ERRP = "the model and a real run disagree", "the subject has no errp"
"""Why a clause is not decided."""


class Options(Struct, frozen=True):
    """What is to be proved: of layouts of up to so many segments, in so many seconds, by so many solvers at a time."""

    segments: int = 2
    clauses: tuple[str, ...] = ()
    seconds: float | None = None
    jobs: int = 1
    parts: SandboxFeature = SandboxFeature.ALL


class Query(Struct, frozen=True):
    """One part as it was decided: its clauses and how each fared, and in which time."""

    part: str
    clauses: dict[str, str]
    seconds: float


class Proof(Struct, frozen=True):
    """What was decided. `why` says for each clause that is not decided why it is not."""

    options: Options
    version: str
    """That of CBMC; empty where all of a small scope was run natively."""
    unit: str
    """A digest of the text that was compiled."""
    model: str
    """A digest of the model."""
    proved: frozenset[str]
    """The clauses that no input within the bounds violates."""
    why: dict[str, str]
    confirmed: tuple[Violation, ...] = ()
    unconfirmed: tuple[Violation, ...] = ()
    """What a run has shown, and which did not come again or, if it was interrupted, was not run again."""
    disagreements: tuple[Disagreement, ...] = ()
    queries: tuple[Query, ...] = ()
    runs: int = 0
    """Calls that were made for real."""
    inputs: int = 0
    """Those that the model was run with natively, where no CBMC decided."""
    seconds: float = 0.0
    interrupted: bool = False


@cache
def provable() -> tuple[str, ...]:
    """The clauses that the model decides, in the order of their bits (``VM_CLAUSES`` in specs/model/model.h)."""
    return tuple(name for name, clause in clauses().items() if clause.proof)


def digest(texts: Sequence[Path]) -> str:
    """A digest of files."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in texts)).hexdigest()
