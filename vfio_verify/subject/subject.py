"""Subjects: what is verified, and what of a case reaches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from vfio_verify.values.case import Call, Case, in_world
from vfio_verify.values.source_line import LeftOut, SourceLine, SourceText
from vfio_verify.worker.leftovers import private_directory
from vfio_verify.worker.sandbox import SandboxFeature

if TYPE_CHECKING:
    from vfio_verify.subject.debuginfo import Lines
    from vfio_verify.subject.source.given import Given


class Subject(Struct, frozen=True):
    """An implementation ready to run. `library` is None for the core."""

    name: str
    """As the user gave it."""
    kind: str
    """"core" or "C"."""
    function: str
    signature: str
    title: str | None = None
    """The subject line of the patch it comes from."""
    place: str | None = None
    """File and line of its definition."""
    library: Path | None = None
    has_errp: bool = True
    """Whether its signature has a place for an error."""
    text: SourceText | None = None
    """What it was compiled from."""
    left_out: tuple[LeftOut, ...] = ()
    """What of its functions was not compiled."""
    told_total: bool = True
    """Whether the total size is given to it. If not, it is the sum of the lengths, as iov_size() has it."""
    arguments: tuple[str, ...] = ()
    """What the user gave after the name: further files, and options by which they are read."""
    notes: tuple[str, ...] = ()
    """What is to be told of how it was read."""
    taken: tuple[str, ...] = ()
    """What comes from its tree, and where it is there."""
    is_built_twice: bool = False
    """Whether it is also there with automatic variables that are zero until they are set."""
    assume: tuple[str, ...] = ()
    """The conventions of every world that it is run in, where the user asks for some, as a case has them."""
    defines: tuple[str, ...] = ()
    """``NAME`` or ``NAME=VALUE`` each, with which it was compiled."""
    readable: tuple[Path, ...] = ()
    """The user's files that it was compiled with."""

    @property
    def unit(self) -> Path | None:
        """The C text that was compiled, which lies beside the library; None for the core."""
        return self.library.with_suffix(".c") if self.library else None

    @property
    def linked(self) -> list[Path]:
        """The files that are loaded before its library, if it is linked with others (`linking`)."""
        return sorted(self.library.parent.glob("linked/*")) if self.library else []

    def line_at(self, place: int) -> SourceLine | None:
        """The line of the subject's text that an address in its library belongs to, as events and frames have it. None
        for the core, and where it cannot be told."""
        return _lines(self.library, self.text).at(place) if self.library and self.text else None

    def lines_reached(self, covered: bytes) -> tuple[list[SourceLine], list[SourceLine]]:
        """The lines that have code, in their order: those of which some ran, and those of which none did. `covered` is
        `Worker.covered`. Both are empty where that is not known."""
        return _lines(self.library, self.text).reached(covered) if self.library and self.text else ([], [])

    def adapt(self, case: Case) -> Case:
        """The case as this subject is given it."""
        if case.variables == "zero" and not self.is_built_twice:
            earlier = tuple(replace(before, variables="pattern") for before in case.earlier)
            case = replace(case, variables="pattern", earlier=earlier)
        if self.assume:
            case = in_world(case, self.assume)
        if self.told_total:
            return case
        sequence = tuple(_summed(action) if isinstance(action, Call) else action for action in case.sequence)
        return replace(_summed(case), sequence=sequence, concurrent=tuple(map(_summed, case.concurrent)))


@lru_cache(maxsize=8)
def _lines(library: Path, text: SourceText) -> Lines:
    from vfio_verify.subject.debuginfo import Lines  # what runs cases does not need it

    return Lines.of(library, text)


CallOrCase = TypeVar("CallOrCase", Call, Case)


def _summed(call: CallOrCase) -> CallOrCase:
    total = sum(segment.length for segment in call.iovec) % (1 << 64)
    return call if call.total_size == total else replace(call, total_size=total)


CORE = Subject("core", "core", "core_map", "bool f(struct iovec *, unsigned int, void **, size_t, Error **)")


@contextmanager
def open_subject(
    name: str | Sequence[str],
    function: str | None = None,
    parts: SandboxFeature = SandboxFeature.ALL,
    given: Given | None = None,
    assume: tuple[str, ...] = (),
) -> Iterator[Subject]:
    """Make a subject of what the user named: ``core``, or C code in any form that `read_source` knows. It is run in
    worlds with the conventions that are assumed.

    What is compiled, confined by `parts` of the sandbox, lies in a private temporary directory, and is gone at the
    end. Raises InputError.
    """
    names = [name] if isinstance(name, str) else list(name)
    if names == ["core"]:
        yield replace(CORE, assume=assume)
        return
    # Here and below: parsing C needs libraries that a check of the core can do without.
    from vfio_verify.subject.driver import flags_asked

    with private_directory() as directory, flags_asked(Path(directory), parts) as flags:
        from vfio_verify.subject import compiler
        from vfio_verify.subject.messages import UnknownNamesError
        from vfio_verify.subject.source import Given, read_source

        system = partial(compiler.system_words, Path(directory), parts=parts)
        source = read_source(names, function, any_include=not parts, given=given or Given(), system=system)
        while True:
            try:
                links = given.links if given else ()
                library = compiler.build(source, Path(directory), parts=parts, links=links, flags=flags)
                break
            except UnknownNamesError as error:
                more = source.with_names(error.names)
                if more is None:
                    raise
                source = more
        target = source.target
        yield Subject(
            name=source.name,
            kind="C",
            function=target.name,
            signature=target.signature.value,
            title=source.title,
            place=target.item.place,
            library=library.path,
            has_errp=target.signature.has_errp,
            text=source.text,
            left_out=library.left_out,
            told_total=target.signature.is_told_total,
            arguments=(*names[1:], *(given.arguments if given else ())),
            notes=(*source.notes, *library.warnings),
            taken=source.taken,
            is_built_twice=library.is_built_twice,
            assume=assume,
            defines=source.defines,
            readable=source.readable,
        )
