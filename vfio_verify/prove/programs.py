"""The programs that CBMC is asked about: a subject's C, the model and a question."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from vfio_verify.errors import InputError
from vfio_verify.prove.cbmc import Builder, Program
from vfio_verify.prove.constructs import PassedOver, passed_over, preprocess
from vfio_verify.prove.names import MODEL
from vfio_verify.prove.plan import Part
from vfio_verify.prove.pointers import UNREAD, guarded
from vfio_verify.prove.proof import Options, provable
from vfio_verify.prove.text import Text
from vfio_verify.subject.subject import Subject

PROGRAM = (*MODEL, "cbmc.c")
"""The model's files, the last of which is the driver."""


class Programs:
    """The programs of the parts. What several have in common is made once."""

    def __init__(
        self, builder: Builder, subject: Subject, text: Text, options: Options, *, model: Path, include: Path
    ) -> None:
        self.builder = builder
        self._subject, self._text, self._options = subject, text, options
        self._model, self._include = model, include
        self._objects: dict[tuple[str, ...], Path] = {}
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
            self.builder.compile([output], self._whole)
        except InputError as error:
            raise InputError(f"CBMC cannot parse {self._subject.name}: {error}") from None

    def of(self, part: Part, *, assumed: bool, alone: Collection[str] = (), small: bool = False) -> Program:
        """The program of a part; with `assumed`, without the runs in which the subject follows a bad pointer; with
        `small`, of buffers only that every machine can map. What calls by themselves violate of `alone`, a second call
        may violate too."""
        common = [f"-I{self._include}", f"-I{self._model}", *part.bounds.defines]
        common += [f"-DVM_HAS_ERRP={int(self._subject.has_errp)}"]
        own = part.defines
        own += [] if self._subject.told_total else ["-DVM_SUMMED"]
        own += ["-DVM_SMALL=0x4000000"] if small else []
        unsaid = part.unsaid | set(alone)
        own += [f"-DVM_ALONE={sum(1 << bit for bit, name in enumerate(provable()) if name in unsaid)}"]
        paths = [self._model / name for name in PROGRAM]
        with self._lock:
            model = self._object(common, paths[:-1])
            question = self._object([*common, *own], paths[-1:])
            if assumed and not self._assumed.exists():
                self.builder.with_checks_assumed(self._whole, self._assumed)
        subject = self._assumed if assumed else self._whole
        return self.builder.link([model, question, subject], self._new(), (*paths, *self._text.of_model))

    def _object(self, options: Sequence[str], sources: Sequence[Path]) -> Path:
        name = (*options, *map(str, sources))
        if name not in self._objects:
            output = self._new()
            self.builder.compile(sources, output, options)
            self._objects[name] = output
        return self._objects[name]

    def _new(self) -> Path:
        return self.builder.directory / f"{next(self._number)}.gb"
