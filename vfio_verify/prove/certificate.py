"""What was proved of which text: a file that can be held against a proof that is made again."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from vfio_verify import __version__
from vfio_verify.errors import InputError
from vfio_verify.prove.proof import Proof, Query, provable


class Certificate(Struct, frozen=True, tag_field="schema", tag="vfio-verify/certificate@1"):
    """A proof without its cases. `unit` and `model` are digests (SHA-256) of the text that was compiled and of the
    model; `clauses` says how each clause fared, `queries` the same of each part, with its seconds."""

    subject: str
    function: str
    unit: str
    model: str
    segments: int
    cbmc: str
    version: str
    clauses: dict[str, str]
    queries: tuple[Query, ...]
    seconds: float

    def differences(self, other: Certificate) -> list[str]:
        """What a proof that was made again has otherwise, a sentence each."""
        names = {
            "unit": "the text of the subject is another",
            "model": "the model is another",
            "segments": f"segments: {self.segments}, now {other.segments}",
            "cbmc": f"CBMC: {self.cbmc}, now {other.cbmc}",
        }
        found = [text for name, text in names.items() if getattr(self, name) != getattr(other, name)]
        for clause in dict.fromkeys((*self.clauses, *other.clauses)):
            before, now = self.clauses.get(clause, "not asked for"), other.clauses.get(clause, "not asked for")
            if before != now:
                found.append(f"{clause}: {before}, now {now}")
        return found


def certificate(name: str, function: str, proof: Proof) -> Certificate:
    """The certificate of a proof."""

    def fared(clause: str) -> str:
        if clause in proof.proved:
            return "proved"
        return f"not decided ({proof.why[clause]})" if clause in proof.why else "violated"

    asked = proof.options.clauses or provable()
    return Certificate(
        name, function, proof.unit, proof.model, proof.options.segments, proof.version, __version__,
        {clause: fared(clause) for clause in asked}, proof.queries, round(proof.seconds, 1),
    )  # fmt: skip


def read(path: str) -> Certificate:
    """Read one from a file. Raises InputError."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Certificate)
    except OSError as error:
        raise InputError(f"cannot read the certificate {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InputError(f"{path} is no certificate: {error}") from error


def to_json(one: Certificate) -> bytes:
    """One object, indented."""
    return msgspec.json.format(msgspec.json.encode(one), indent=1) + b"\n"
