"""The model in C and a subject, compiled to one program that runs inputs by the million (specs/model/native.c).

The subject's code runs in that program's process, which is confined as a compiler is. What the program says of a clause
is believed as far as a proof is: a violation is run for real, and that nothing was found rests on the model.
"""

from __future__ import annotations

import array
import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

from msgspec import Struct

from vfio_verify.errors import HarnessError, InputError
from vfio_verify.prove.constructs import passed_over, preprocess
from vfio_verify.prove.given import Bounds, fields
from vfio_verify.prove.names import C_LIBRARY, MODEL
from vfio_verify.prove.proof import provable
from vfio_verify.prove.text import Text, text_of
from vfio_verify.subject import compiler
from vfio_verify.subject.subject import Subject
from vfio_verify.worker import sandbox
from vfio_verify.worker.children import end, environment
from vfio_verify.worker.sandbox import SandboxFeature, Start

LEFT, NO_INPUT = 1 << 31, 1 << 30
"""What an answer says beside the clauses: the subject does what the model does not have; no case has this input."""
PROGRAM = ("native.c", "exhaust.c")
_FLAGS = (
    "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-w", "-fno-pic", "-fno-common", "-fno-data-sections",
    "-fno-stack-protector", "-U_FORTIFY_SOURCE",
    # As subjects are compiled for a check.
    "-fno-strict-aliasing", "-fwrapv", "-fno-delete-null-pointer-checks", "-ftrivial-auto-var-init=pattern",
)  # fmt: skip
# There is one thread, and all variables are set back before each run.
_ONE_THREAD = ("__thread=", "_Thread_local=")
_ONE_SECTION = "SECTIONS { vm_data : { *(.data) *(.data.*) *(.bss) *(.bss.*) *(COMMON) } }\n"
_LIMITS = "ulimit -v 2097152; ulimit -c 0; ulimit -f 0; "


class Program(Struct, frozen=True):
    """A subject and the model, ready to run."""

    path: Path
    text: Text
    bounds: Bounds
    parts: SandboxFeature

    def start(self, *arguments: str, stdin: int) -> subprocess.Popen[bytes]:
        """Start it, confined, as a group of processes of its own."""
        reads = tuple(sandbox.readable_by_subject(None))
        start = Start((*reads, self.path.parent, Path("/bin"), Path("/usr/bin")), (), self.path.parent, self.parts)
        return start.run(
            ["/bin/sh", "-c", f'{_LIMITS}exec "$@"', "sh", str(self.path), *arguments],
            env=environment(), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def build(subject: Subject, directory: Path, bounds: Bounds, parts: SandboxFeature = SandboxFeature.ALL) -> Program:
    """Compile and link all of it in an existing directory. Raises InputError for a subject that does what the model
    does not have."""
    directory = directory.resolve()
    with as_file(files("vfio_verify") / "include") as include, as_file(files("vfio_verify.specs") / "model") as model:
        text = text_of(subject, model)
        for one in passed_over(preprocess(text, directory / "subject.i", include, parts, _ONE_THREAD)):
            if one.what == "assembly":  # it could do anything
                raise InputError(f"the model does not have {one.why}")
        options = [*_FLAGS, *bounds.defines, "-DVM_NATIVE", f"-DVM_HAS_ERRP={int(subject.has_errp)}"]
        options += [] if subject.told_total else ["-DVM_SUMMED"]

        def run(*arguments: str) -> None:
            readable = (include.resolve(), model.resolve())
            if said := compiler.run_on([*options, *arguments], directory, readable=readable, parts=parts):
                raise HarnessError(f"the model cannot be compiled: {said[-2000:]}")

        (directory / "one.ld").write_text(_ONE_SECTION)
        sources = [str(model / name) for name in MODEL]
        run(f"-I{include}", f"-I{model}", "-r", "-nostdlib", "-Wl,-T,one.ld", "-o", "whole.o", *sources, "subject.i")
        if unknown := _unknown_names(directory / "whole.o"):
            raise InputError(f"the model does not have {', '.join(unknown)}")
        sources = [str(model / name) for name in PROGRAM]
        run(f"-I{include}", f"-I{model}", "-no-pie", "-o", "run", *sources, "whole.o")
    return Program(directory / "run", text, bounds, parts)


def _unknown_names(whole: Path) -> list[str]:
    """What the subject uses and neither the model nor this part of the C library has."""
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    with whole.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        undefined = {symbol.name for symbol in table.iter_symbols() if symbol["st_shndx"] == "SHN_UNDEF"}
    return sorted(name for name in undefined - C_LIBRARY if name and not name.startswith("vm_"))


def answers(program: Program, inputs: Iterable[Mapping[str, int]]) -> list[int]:
    """What each input violates: bits of `provable()` by their position, `LEFT` and `NO_INPUT`."""
    return array.array("I", _asked(program, "run", inputs)).tolist()


class Expected(Struct, frozen=True):
    """What the spec asks of an input. `places` has the memory and the offset in it that each segment must show."""

    refusals: frozenset[str]
    either: bool
    length: int
    places: tuple[tuple[int, int], ...]


def expected(program: Program, inputs: Sequence[Mapping[str, int]]) -> list[Expected]:
    """What the spec asks of the first call of each input, by the model."""
    words = array.array("Q", _asked(program, "expect", inputs)).tolist()
    each = 3 + 2 * program.bounds.segments
    return [
        _expected(given, words[at : at + each]) for given, at in zip(inputs, range(0, len(words), each), strict=True)
    ]


def _expected(given: Mapping[str, int], words: Sequence[int]) -> Expected:
    refusals, either, length, *places = words
    assert refusals != NO_INPUT
    shown = 0 if refusals else given["call[0].n"]
    return Expected(
        clauses_of(refusals), bool(either), length, tuple(zip(places[::2], places[1::2], strict=True))[:shown]
    )


def _asked(program: Program, what: str, inputs: Iterable[Mapping[str, int]]) -> bytes:
    names = list(fields(program.bounds))
    words = array.array("Q", (given[name] for given in inputs for name in names))
    process = program.start(what, stdin=subprocess.PIPE)
    try:
        told, _ = process.communicate(words.tobytes())
    finally:
        end(process)
    if process.returncode:
        raise HarnessError(f"the model ended with status {process.returncode}")
    return told


def clauses_of(answer: int) -> frozenset[str]:
    """The ids of the clauses of an answer."""
    return frozenset(name for bit, name in enumerate(provable()) if answer >> bit & 1)


class Found(Struct, frozen=True):
    """An input that violates clauses, the first one of each."""

    clauses: frozenset[str]
    given: dict[str, int]


class Left(Struct, frozen=True):
    """Why an input is left out: what the model does not have, in words."""

    why: str


class Hangs(Struct, frozen=True):
    """It ends early: too many runs do not return."""


class Progress(Struct, frozen=True):
    """How far it is: runs, how many of them were left out, and the parts of the scope that are done."""

    runs: int
    left: int
    done: int
    of: int


class DamagedError(Exception):
    """The program does not answer as it should: the subject may have written over it."""


SILENCE = 30.0  # seconds; a part tells how far it is many times in one


def exhaust(
    program: Program, segments: int, part: int, parts: int, processes: set[subprocess.Popen[bytes]]
) -> Iterator[Found | Left | Hangs | Progress]:
    """Run all of the small scope, or one part of several. The last thing told is the progress. The process is in
    `processes` while it runs, so that another thread can end it. Raises DamagedError."""
    process = program.start("exhaust", str(segments), str(part), str(parts), stdin=subprocess.DEVNULL)
    processes.add(process)
    names = list(fields(program.bounds))
    progress, hangs = Progress(0, 0, 0, 1), False
    try:
        for line in _lines(process):
            what, *words = line.decode("ascii", "replace").split()
            if what == "runs":
                progress = Progress(*map(int, words))
                yield progress
            elif what == "hangs":
                hangs = True
                yield Hangs()
            elif what == "left":
                yield Left(" ".join(words))
            elif what == "found":
                given = dict(zip(names, (int(word, 16) for word in words[1:]), strict=True))
                yield Found(clauses_of(int(words[0], 16)), given)
    except (ValueError, TypeError):
        raise DamagedError from None
    finally:
        killed = process.poll() is None
        processes.discard(process)
        end(process)
    whole = progress.done == progress.of or hangs
    if not killed and process.returncode != -signal.SIGKILL and (process.returncode or not whole):
        raise DamagedError


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What a program writes, which must not be silent for long."""
    assert process.stdout is not None
    rest = b""
    with process.stdout as output:
        while True:
            if not select.select([output], [], [], SILENCE)[0]:
                raise DamagedError
            data = os.read(output.fileno(), 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
