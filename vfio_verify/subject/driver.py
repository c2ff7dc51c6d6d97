"""The C compiler: where it is, how it is run, and which of the flags it knows that not every one has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain, compress
from pathlib import Path
from subprocess import CalledProcessError

from vfio_verify.errors import InputError, VfioVerifyError, starting
from vfio_verify.worker import sandbox
from vfio_verify.worker.children import end, environment, wait_for
from vfio_verify.worker.sandbox import SandboxFeature, Start

TIME_LIMIT = 60.0  # seconds; a unit of this kind takes well under one
_MEMORY_LIMIT = 4 << 20  # KiB of address space, for `ulimit -v`
_FILE_LIMIT = 512 << 10  # blocks of 512 bytes, for `ulimit -f`
_CPU_LIMIT = 120  # seconds, for `ulimit -t`; the limit on time ends it sooner
_NOT_THE_COMPILERS = ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES")  # they make files

# What a variable that is never set holds is the same in each run. QEMU has zero there, which may be taken for success;
# a pattern is wrong nearly everywhere.
PATTERN, ZERO = "-ftrivial-auto-var-init=pattern", "-ftrivial-auto-var-init=zero"
VARIABLES = (PATTERN, ZERO)
# Each block tells the world that it runs (pyx/world/base/where.c).
_OPTIONAL_FLAGS = ("-fsanitize-coverage=trace-pc", PATTERN, ZERO, "-fno-diagnostics-show-option")
_GCCS_FLAGS = (
    "-fno-diagnostics-show-caret",
    # Of debug information the lines and the inlined functions, as complete as with -g, and not the types and variables.
    "-g1 -gstatement-frontiers -gvariable-location-views -ginline-points",
)
_CLANGS_FLAGS = (
    "-fno-caret-diagnostics",
    # It leaves some blocks out unless told otherwise.
    "-fsanitize-coverage=no-prune",
    # It would make one call of two that are alike, as those of error_setg() are.
    *("-mllvm -simplifycfg-sink-common=false", "-mllvm -enable-tail-merge=false"),
)
_SETS = ((*_OPTIONAL_FLAGS, *_CLANGS_FLAGS), (*_OPTIONAL_FLAGS, *_GCCS_FLAGS))


def find_compiler() -> list[str]:
    """The command of the machine's C compiler: $CC, else cc, gcc or clang. InputError if there is none."""
    given = os.environ.get("CC", "").strip()
    try:
        command = shlex.split(given)
    except ValueError as error:
        raise InputError(f"CC={given} cannot be read as a command: {error}") from None
    tried = command[:1] or ["cc", "gcc", "clang"]
    for name in tried:
        # By its full path: a compiler finds its own programs by where it is itself.
        if found := shutil.which(name):
            return [found, *command[1:]]
    looked_for = f"{'CC names' if command else 'tried'} {', '.join(tried)}"
    raise InputError(
        f"no C compiler found ({looked_for}). A C subject needs one. On Debian: "
        "apt-get install gcc libc6-dev; elsewhere install your distribution's C compiler"
    )


class Run(AbstractContextManager["Run"]):
    """A compiler at work in a directory, confined, with limits on time, memory and output. It ends with the context,
    and its own children too."""

    def __init__(self, command: Sequence[str], start: Start, directory: Path | None = None) -> None:
        self._command = command
        self._until = time.monotonic() + TIME_LIMIT
        variables = {"PATH": os.defpath} | environment(LC_ALL="C", TMPDIR=str(start.writable))
        if start.parts:
            variables["CCACHE_DISABLE"] = "1"  # it would write into the user's cache
        for name in _NOT_THE_COMPILERS:
            variables.pop(name, None)
        limits = {"v": _MEMORY_LIMIT, "f": _FILE_LIMIT, "t": _CPU_LIMIT, "c": 0}
        limited = "".join(f"ulimit -{letter} {value}; " for letter, value in limits.items()) + 'exec "$@"'
        with ExitStack() as stack, starting("the compiler"):
            # In memory, where a full disk leaves room for what the compiler says of it; and without a name, of which it
            # could make another file's.
            self._output = stack.enter_context(open(os.memfd_create("compiler's messages", os.MFD_CLOEXEC), "w+b"))
            self._process = start.run(
                ["/bin/sh", "-c", limited, "sh", *command],
                cwd=directory or start.writable,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stack.pop_all()

    def __exit__(self, *_: object) -> None:
        with self._output:
            end(self._process)

    def messages(self) -> str:
        """What it says, when it has ended. Raises CalledProcessError, which has the messages, where it fails, and
        InputError where it does not end."""
        try:
            status = wait_for(self._process, max(0.0, self._until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise InputError(
                f"the C compiler did not finish within {TIME_LIMIT:g} seconds; the input makes it work without end"
            ) from None
        self._output.seek(0)
        told = self._output.read(1 << 20).decode("utf-8", "replace")
        if status != 0:
            raise CalledProcessError(status, list(self._command), told)
        return told

    def succeeds(self) -> bool:
        """Whether it does, when it has ended. Raises InputError where it does not end."""
        try:
            self.messages()
        except CalledProcessError:
            return False
        return True


@contextmanager
def beside(commands: Sequence[Sequence[str]], start: Start) -> Iterator[list[Run]]:
    """Compilers that work at the same time."""
    with ExitStack() as stack:
        yield [stack.enter_context(Run(command, start)) for command in commands]


def run(command: Sequence[str], start: Start, directory: Path | None = None) -> str:
    """The messages of a compiler. Raises as `Run.messages`."""
    with Run(command, start, directory) as process:
        return process.messages()


def succeeds(command: Sequence[str], start: Start) -> bool:
    with Run(command, start) as process:
        return process.succeeds()


_flags_of: dict[tuple[object, ...], list[str]] = {}
"""The optional flags that a compiler knows, by its command and its program's file. A process asks once."""


class Flags(AbstractContextManager["Flags"]):
    """The optional flags that a compiler knows: all of clang's or of GCC's, or as many of both as it takes one by one.
    It is asked from the beginning of the context on, and meanwhile other things can be done."""

    def __init__(self, compiler: Sequence[str], directory: Path, parts: SandboxFeature) -> None:
        self._start = Start(tuple(sandbox.used_by_compiler(compiler)), (), directory, parts)
        self._probe = [*compiler, "-Werror", "-fsyntax-only", "-x", "c", os.devnull]
        program = os.stat(shutil.which(compiler[0]) or compiler[0])
        self._asked = (*compiler, program.st_ino, program.st_mtime_ns, parts)
        self._stack = ExitStack()
        sets = () if self._asked in _flags_of else _SETS
        self._runs = self._stack.enter_context(beside([self._command(flags) for flags in sets], self._start))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def known(self) -> list[str]:
        """Raises InputError if the compiler does not end."""
        if self._asked not in _flags_of:
            whole = next((flags for flags, run in zip(_SETS, self._runs, strict=True) if run.succeeds()), None)
            _flags_of[self._asked] = list(whole or self._known_by_themselves())
        self._stack.close()
        return _flags_of[self._asked]

    def _known_by_themselves(self) -> Iterator[str]:
        flags = (*_OPTIONAL_FLAGS, *_CLANGS_FLAGS, *_GCCS_FLAGS)
        with beside([self._command([flag]) for flag in flags], self._start) as runs:
            yield from compress(flags, [run.succeeds() for run in runs])

    def _command(self, flags: Sequence[str]) -> list[str]:
        return [*self._probe, *chain(*map(str.split, flags))]


@contextmanager
def flags_asked(directory: Path, parts: SandboxFeature) -> Iterator[Flags | None]:
    """Ask the compiler which flags it knows, while the source is read. None where that fails, which `compiler.build`
    tells."""
    with ExitStack() as stack:
        try:
            flags = stack.enter_context(Flags(find_compiler(), directory.resolve(), parts))
        except VfioVerifyError:
            flags = None
        yield flags
