"""The programs that CBMC is asked about: the model, a subject's C and a question."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec.structs import replace

from vfio_verify.errors import InputError
from vfio_verify.prove.cbmc import Builder, Program
from vfio_verify.prove.constructs import PassedOver, passed_over, preprocess
from vfio_verify.prove.given import Bounds
from vfio_verify.prove.names import MODEL
from vfio_verify.prove.plan import Part
from vfio_verify.prove.pointers import UNREAD, guarded
from vfio_verify.prove.proof import Options, provable
from vfio_verify.prove.text import Text
from vfio_verify.subject.subject import Subject

PROGRAM = (*MODEL, "question.h", "cbmc.c")
"""The model's files, the last of which is the driver."""
_SMALL = 64 << 20
"""Bytes of a buffer that every machine can map."""


class Programs:
    """The programs of the parts. What several have in common is made once."""

    def __init__(
        self, builder: Builder, subject: Subject, text: Text, options: Options, *, model: Path, include: Path
    ) -> None:
        self.builder = builder
        self._subject, self._text, self._options = subject, text, options
        self._model, self._include = model, include
        self._models: dict[Bounds, Path] = {}
        self._without_question: dict[tuple[Bounds, bool, bool], Program] = {}
        self._lock = threading.Lock()
        self._number = itertools.count()
        self.rounds = options.segments + 2
        """How often a loop of the subject's is unwound."""
        self.passed_over: tuple[PassedOver, ...] = ()
        self._whole, self._assumed = builder.directory / "subject.gb", builder.directory / "assumed.gb"

    def read_subject(self) -> None:
        """Preprocess and parse it. Raises InputError."""
        output = self.builder.directory / "subject.i"
        own = preprocess(self._text, output, self._include, self._options.parts)
        text, unread = guarded(output.read_bytes(), {one.row for one in own})
        output.write_bytes(text)
        sums = (PassedOver(UNREAD, one.file, one.line) for one in own if one.row in unread)
        self.passed_over = (*passed_over(own), *sums)
        try:
            self.builder.compile(output, self._whole)
        except InputError as error:
            raise InputError(f"CBMC cannot parse {self._subject.name}: {error}") from None

    def of(
        self,
        part: Part,
        *,
        assumed: bool,
        alone: Collection[str] = (),
        small: bool = False,
        subject_first: bool = False,
    ) -> Program:
        """The program of a part; with `assumed`, without the runs in which the subject follows a bad pointer; with
        `small`, of buffers only that every machine can map. What calls by themselves violate of `alone`, a second call
        may violate too."""
        unsaid = part.unsaid | set(alone)
        question = part.question | {
            "summed": not self._subject.told_total,
            "most_bytes": _SMALL if small else 0,
            "unsaid": sum(1 << bit for bit, name in enumerate(provable()) if name in unsaid),
        }
        with self._lock:
            path = self._new("question", ".c")
            path.write_text(question_text(question, self._model))
            kind = part.bounds, assumed, subject_first
            if kind not in self._without_question:
                self._without_question[kind] = self._program(*kind, path)
            common = self._without_question[kind]
        return replace(common, paths=(*common.paths[:-1], path))

    def _program(self, bounds: Bounds, assumed: bool, subject_first: bool, question: Path) -> Program:
        if assumed and not self._assumed.exists():
            self.builder.with_checks_assumed(self._whole, self._assumed)
        if bounds not in self._models:
            self._models[bounds] = model = self._new("model", ".gb")
            defines = [*bounds.defines, f"-DVM_HAS_ERRP={int(self._subject.has_errp)}"]
            source = self._new("model", ".c")
            source.write_text("".join(f'#include "{self._model / name}"\n' for name in PROGRAM))
            self.builder.compile(source, model, [f"-I{self._include}", f"-I{self._model}", *defines])
        # The checks of two static functions of one name are numbered in this order.
        objects = [self._models[bounds], self._assumed if assumed else self._whole]
        objects = [*(reversed(objects) if subject_first else objects), question]
        of_model = [self._model / name for name in PROGRAM]
        return self.builder.program(objects, (*of_model, *self._text.of_model))

    def _new(self, name: str, suffix: str) -> Path:
        return self.builder.directory / f"{name}-{next(self._number)}{suffix}"


def question_text(question: Mapping[str, int], model: Path) -> str:
    """C of a question, whose fields specs/model/question.h has."""
    fields = ", ".join(f".{name} = {int(value)}u" for name, value in question.items())
    return f'#include "{model / "question.h"}"\nconst struct vm_question vm_question = {{{fields}}};\n'
