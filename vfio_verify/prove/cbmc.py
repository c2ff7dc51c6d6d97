"""CBMC: where it is, how C becomes a program of its own, and what it answers when it is asked about one.

What a subject's author wrote is preprocessed by the confined compiler and parsed by goto-cc; nothing of it runs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vfio_verify.errors import HarnessError, InputError, starting
from vfio_verify.worker.children import environment

ENVIRONMENT = "VFIO_VERIFY_CBMC"
_OLDEST = 6
_MISSING = """no cbmc found ({}). A proof needs CBMC 6.0 or later:
  Debian 13 and later, Ubuntu if its version is new enough: apt-get install cbmc
  Fedora: dnf install cbmc
  macOS: brew install cbmc
  Debian 12: has none; docs/prove.md says how its users run that of Debian 13
Then it is found on PATH, or named by --cbmc or ${}"""

_MEMORY_LIMIT = 2 << 20  # KiB of address space, for `ulimit -v`
_MOST_OUTPUT = 256 << 20  # bytes
_BUILD_SECONDS = 60.0
PATIENCE = 60.0
"""Seconds in which nearly every question of two segments has its answer."""
_ROUNDS_OF_THE_MODEL = 202
"""Rounds of the model's own loops, each of which ends by itself."""
_CHECKS = (
    "--no-standard-checks", "--pointer-check", "--bounds-check", "--div-by-zero-check", "--no-malloc-may-fail",
    "--drop-unused-functions",
)  # fmt: skip
_SOLVER = (
    "--arrays-uf-never", "--slice-formula",
    # As many objects as there may be in a large subject; what is left of a pointer is its offset, of 54 bits.
    "--object-bits", "10",
)  # fmt: skip
_ASSUMED = (
    "--pointer-check", "--bounds-check", "--div-by-zero-check", "--no-signed-overflow-check",
    "--no-undefined-shift-check", "--no-pointer-primitive-check", "--assert-to-assume",
)  # fmt: skip
_NO_POINTER_CHECK = (".pointer_arithmetic.", ".pointer_primitives.")
"""What CBMC says of pointers that are computed and not followed. The model's addresses are numbers, of which it would
say that they point to no object."""


class OutOfTimeError(Exception):
    """The time is up, or all is to end."""


class TakesLongError(OutOfTimeError):
    """The program's own time is up."""


class NotNeededError(Exception):
    """The answer is not needed any more."""


class OutOfMemoryError(Exception):
    """CBMC needs more memory than it is given."""


class Failed(Struct, frozen=True):
    """A property that does not hold, and the run of the program that shows it."""

    name: str
    description: str
    file: str
    line: int
    function: str
    given: dict[str, int]
    """The fields of ``struct vm_given``."""


class Property(Struct, frozen=True):
    """What CBMC can be asked about: an assertion of the model's, or a check of the subject's code."""

    name: str
    description: str
    of_model: bool


class Solvers:
    """The processes that are at work, which end together."""

    def __init__(self, seconds: float | None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds
        self._running: dict[subprocess.Popen[bytes], frozenset[str]] = {}
        self._lock = threading.Lock()
        self.over = False

    @property
    def seconds_left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def end(self) -> None:
        """End all that run, and let no other begin."""
        with self._lock:
            self.over = True
            for process in self._running:
                _kill(process)

    def drop(self, clauses: Collection[str]) -> None:
        """End those that are asked about none but these clauses."""
        with self._lock:
            for process, asked in self._running.items():
                if asked and asked <= set(clauses):
                    self._running[process] = _DROPPED
                    _kill(process)

    def run(
        self,
        command: Sequence[str],
        directory: Path,
        most_seconds: float | None = None,
        clauses: Collection[str] = (),
    ) -> tuple[int, bytes]:
        """The exit status and the output of a program, which is asked about clauses. Raises OutOfTimeError, after
        `most_seconds` TakesLongError, OutOfMemoryError, and NotNeededError if it was dropped."""
        limited = f'ulimit -v {_MEMORY_LIMIT}; ulimit -c 0; exec "$@"'
        output = os.memfd_create("output", os.MFD_CLOEXEC)
        with open(output, "w+b") as told:
            with self._lock, starting("CBMC"):
                if self.over:
                    raise OutOfTimeError
                process = subprocess.Popen(
                    ["/bin/sh", "-c", limited, "sh", *command],
                    cwd=directory,
                    env=environment(LC_ALL="C", TMPDIR=str(directory)),
                    stdin=subprocess.DEVNULL,
                    stdout=told,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                self._running[process] = frozenset(clauses)
            left = self.seconds_left
            limit = min((one for one in (most_seconds, left) if one is not None), default=None)
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                raise (OutOfTimeError if limit == left else TakesLongError) from None
            finally:
                _kill(process)
                process.wait()
                with self._lock:
                    asked = self._running.pop(process)
            told.seek(0)
            text = told.read(_MOST_OUTPUT)
        if self.over:
            raise OutOfTimeError
        if asked is _DROPPED:
            raise NotNeededError
        if status not in (0, 10) and (status in (-signal.SIGKILL, -signal.SIGABRT, 134, 137) or _MEMORY.search(text)):
            raise OutOfMemoryError
        return status, text


_DROPPED = frozenset({"dropped"})


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


_MEMORY = re.compile(rb"bad_alloc|out of memory", re.IGNORECASE)


class Cbmc(Struct, frozen=True):
    """The programs, by their paths."""

    cbmc: str
    goto_cc: str
    goto_instrument: str
    version: str


def find(given: str | None) -> Cbmc:
    """The one that is given, that of the environment, or that on PATH. Raises InputError."""
    named = given or os.environ.get(ENVIRONMENT, "")
    found = shutil.which(named or "cbmc")
    if found is None:
        raise InputError(_MISSING.format(f"looked for {named or 'cbmc on PATH'}", ENVIRONMENT))
    found = os.path.abspath(found)
    others = [shutil.which(name, path=os.path.dirname(found)) or "" for name in ("goto-cc", "goto-instrument")]
    if not all(others):
        raise InputError(f"{found} has no goto-cc and goto-instrument beside it; a proof needs all three")
    try:
        asked = subprocess.run(
            [found, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{found} --version cannot be run: {error}") from None
    told = asked.stdout.decode("utf-8", "replace").strip()
    version = re.match(r"(\d+)\.[\d.]+", told)
    if asked.returncode or version is None:
        raise InputError(f"{found} does not say its version: is it CBMC?")
    if int(version[1]) < _OLDEST:
        raise InputError(f"{found} is CBMC {version[0]}; a proof needs 6.0 or later")
    return Cbmc(found, others[0], others[1], version[0])


class Program(Struct, frozen=True):
    """A subject, the model and a question."""

    paths: tuple[Path, ...]
    properties: tuple[Property, ...]
    rounds: tuple[str, ...]
    """How often each loop that is not the subject's is unwound."""


class Builder(Struct, frozen=True):
    """Makes CBMC's programs in a directory."""

    cbmc: Cbmc
    directory: Path
    solvers: Solvers

    def names(self, *paths: Path) -> list[str]:
        """How files are named to CBMC, relative to the directory. Its name is another each time, and what the files
        are called has its part in the order of a formula, and so in the time for it."""
        return [os.path.relpath(path, self.directory) for path in paths]

    def compile(self, source: Path, output: Path, options: Sequence[str] = ()) -> None:
        """Make an object of a C file, preprocessed or not. Raises InputError with the first error."""
        status, told = self._build([self.cbmc.goto_cc, "-c", *options, *self.names(source), "-o", *self.names(output)])
        if status or not output.is_file():
            lines = told.decode("utf-8", "replace").splitlines()
            raise InputError(next((line for line in lines if "error" in line), "CBMC cannot read it"))

    def with_checks_assumed(self, subject: Path, output: Path) -> None:
        """The subject without the runs in which it follows a bad pointer: those are judged by another program."""
        self._made([self.cbmc.goto_instrument, *_ASSUMED, *self.names(subject, output)], output)

    def program(self, objects: Sequence[Path], of_model: Sequence[Path]) -> Program:
        """A whole program. Names of files in `of_model` are those of the model's own code."""
        names = {str(path) for path in of_model}
        rounds = [
            f"{loop['name']}:{_ROUNDS_OF_THE_MODEL}"
            for loop in self._listed(objects, "loops", "--show-loops", "--drop-unused-functions")
            if _is_at(loop["sourceLocation"], names) or _is_at(loop["sourceLocation"], _OF_LIBRARY)
        ]
        properties = [
            Property(one["name"], one["description"], _is_at(one["sourceLocation"], names))
            for one in self._listed(objects, "properties", "--show-properties", *_CHECKS)
        ]
        return Program(tuple(objects), tuple(properties), tuple(rounds))

    def _listed(self, objects: Iterable[Path], what: str, *options: str) -> Iterator[dict[str, Any]]:
        _, told = self._build([self.cbmc.cbmc, *self.names(*objects), "--json-ui", *options])
        for item in _items(told):
            yield from item.get(what, ())

    def _made(self, command: Sequence[str], output: Path) -> None:
        status, told = self._build(command)
        if status or not output.is_file():
            raise HarnessError(f"{command[0]} failed: {told.decode('utf-8', 'replace').strip()[-500:]}")

    def _build(self, command: Sequence[str]) -> tuple[int, bytes]:
        return self.solvers.run(command, self.directory, _BUILD_SECONDS)


class Way(Struct, frozen=True):
    """How a question is put to CBMC, and how long its answer is waited for."""

    subject_first: bool
    """The order of the files is that of the formula."""
    preprocessed: bool
    """Whether the solver simplifies the formula before it begins."""
    seconds: float


def ways() -> Iterator[Way]:
    """The ways, one after the other until there is an answer. For some orders the solver takes ten times as long as for
    another, so that it is better to begin anew than to wait."""
    kinds = itertools.cycle(((True, True), (True, False), (False, True), (False, False)))
    for attempt, kind in enumerate(kinds):
        yield Way(*kind, PATIENCE * 2**attempt)


def ask(
    builder: Builder,
    program: Program,
    properties: Iterable[str],
    way: Way,
    *,
    clauses: Collection[str],
    rounds: int,
    unwinding: bool,
) -> Failed | None:
    """A property that fails of those that are asked for, or None if none does. What CBMC has no body for fails too, and
    so does, with `unwinding`, a loop of the subject's that may run more than `rounds` times. It is not waited for when
    none of `clauses` is. Raises what `Solvers.run` does."""
    command = [
        builder.cbmc.cbmc, *builder.names(*program.paths), *_CHECKS, *_SOLVER, "--unwind", str(rounds),
        "--unwindset", ",".join(program.rounds),
        "--unwinding-assertions" if unwinding else "--no-unwinding-assertions",
        "--stop-on-fail", "--json-ui",
    ]  # fmt: skip
    if not way.preprocessed:
        command.append("--no-sat-preprocessor")
    for name in properties:
        command += ["--property", name]
    status, told = builder.solvers.run(command, builder.directory, way.seconds, clauses=clauses)
    return read_answer(status, told)


def read_answer(status: int, told: bytes) -> Failed | None:
    """What an answer says. Raises HarnessError for what is none."""
    if status == 0:
        return None
    failed = next((item for item in _items(told) if "trace" in item), None) if status == 10 else None
    if failed is None:
        raise HarnessError(f"CBMC failed (exit status {status}): {_errors(told)}")
    given: dict[str, int] = {}
    place: dict[str, Any] = {}
    called: dict[str, Any] = {}
    for step in failed["trace"]:
        here = step.get("sourceLocation", {})
        if step["stepType"] == "failure":
            place = called if _is_at(here, _OF_LIBRARY) else here
        elif step["stepType"] == "function-call" and not _is_at(here, _OF_LIBRARY):
            called = here
        elif step["stepType"] == "assignment" and "binary" in step.get("value", ()):
            name = step["lhs"]
            if name.startswith("vm_given."):
                given[re.sub(r"\[(\d+)l?\]", r"[\1]", name.removeprefix("vm_given."))] = int(step["value"]["binary"], 2)
    return Failed(
        failed["property"],
        failed["description"],
        place.get("file", ""),
        int(place.get("line", 0)),
        place.get("function", ""),
        given,
    )


def asked_of(program: Program, clauses: Iterable[str], *, left: bool, survives: bool) -> list[str]:
    """The names of the properties of a program that belong to these clauses; of what the model does not have; and of
    what ends the process."""
    wanted = set(clauses)
    return [
        one.name
        for one in program.properties
        if (one.of_model and one.description in wanted)
        or (left and one.description.startswith(LEFT))
        or (
            survives
            and not (one.of_model or one.description.startswith(LEFT))
            and not any(part in one.name for part in _NO_POINTER_CHECK)
        )
    ]


LEFT = "LEFT "
"""How the descriptions of assertions begin that nothing was asked for which the model does not have: the rest says
what."""


_OF_LIBRARY = ("<built",)
"""How the names of the files begin that CBMC has of the C library. What these follow, the subject has handed them."""


def _is_at(place: dict[str, Any], files: Collection[str]) -> bool:
    """Whether something is in one of the files, or in one whose name begins so."""
    file = place.get("file", "")
    return any(file.startswith(name) for name in files)


def _items(told: bytes) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = msgspec.json.decode(told, strict=False)
    except msgspec.DecodeError:
        return []
    return found


def _errors(told: bytes) -> str:
    said = [item["messageText"] for item in _items(told) if item.get("messageType") == "ERROR"]
    return "; ".join(said) or told.decode("utf-8", "replace").strip()[-300:]
