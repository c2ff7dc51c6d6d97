"""What stands in a subject's text that CBMC passes over without a word: what rests on it is not decided."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from vfio_verify.prove.names import RENAMED
from vfio_verify.prove.text import Text
from vfio_verify.subject import compiler
from vfio_verify.worker.sandbox import SandboxFeature

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MARKER = re.compile(r'# (\d+) "((?:[^"\\]|\\.)*)"(.*)')
_CLEANUP = re.compile(r"\bcleanup\s*\(\s*(\w+)\s*\)")
_OTHERS = (
    (re.compile(r"\b(?:asm|__asm|__asm__)\b"), "assembly"),
    (re.compile(r"\b(?:_?setjmp|__?sigsetjmp|siglongjmp|longjmp)\s*\("), "setjmp()"),
    (re.compile(r"\b(?:__builtin_)?alloca\s*\("), "alloca()"),
)
# What the world's own ends of a scope do, and what is judged by it. The rest may be anything.
_OF_HEAP = frozenset({"NO_LEAK", "SURVIVES"})
_CLEANUPS = {
    "vfio_verify_autofree": _OF_HEAP,
    "vfio_verify_rcu_leave": _OF_HEAP,
    "vfio_verify_errp_guard_end": _OF_HEAP | {"ERROR_SET"},
}


class PassedOver(Struct, frozen=True):
    """A construct, where it is, and the clauses that rest on it: all if there are none."""

    what: str
    file: str
    line: int
    clauses: frozenset[str] = frozenset()

    @property
    def why(self) -> str:
        """Why a clause is not decided."""
        return f"{self.what}, {self.file.rpartition('/')[2]}:{self.line}"

    def concerns(self, clause: str) -> bool:
        return not self.clauses or clause in self.clauses or (clause == "REPEATABLE" and bool(self.clauses))


class Line(Struct, frozen=True):
    """A line of a preprocessed text that its author wrote: its row there, its place, and the text."""

    row: int
    file: str
    line: int
    text: str


def preprocess(
    text: Text, output: Path, include: Path, parts: SandboxFeature, defines: Sequence[str] = ()
) -> list[Line]:
    """Preprocess a subject's text for the model, whose names it calls then. What of it is the subject's own. `include`
    has the world's headers. Raises HarnessError."""
    compiler.preprocess(
        text.path,
        output,
        defines=(*text.defines, *(f"{name}=vm_{name}" for name in RENAMED), *defines),
        directory=text.directory,
        systems=text.systems,
        readable=text.readable,
        parts=parts,
    )
    foreign = [str(path) for path in (include, *text.of_model)]
    return list(own_lines(output.read_text(encoding="utf-8", errors="surrogateescape"), foreign))


def own_lines(preprocessed: str, foreign: Collection[str]) -> Iterator[Line]:
    """The lines that are the subject's. What lies in a system's header, or below a foreign path, is not."""
    file, line, own = "", 0, False
    for row, text in enumerate(preprocessed.split("\n")):
        if marker := _MARKER.match(text):
            file, line = marker[2], int(marker[1])
            own = "3" not in marker[3].split() and not any(file.startswith(place) for place in foreign)
            continue
        if own and text.strip():
            yield Line(row, file, line, text)
        line += 1


def passed_over(lines: Iterable[Line]) -> Iterator[PassedOver]:
    """What CBMC passes over there."""
    for one in lines:
        bare = _STRING.sub('""', one.text)
        for found in _CLEANUP.finditer(bare):
            clauses = _CLEANUPS.get(found[1], frozenset())
            yield PassedOver("what is done at the end of a scope (cleanup)", one.file, one.line, clauses)
        for pattern, what in _OTHERS:
            if pattern.search(bare):
                yield PassedOver(what, one.file, one.line)
