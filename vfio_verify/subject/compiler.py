"""From a subject's C text to a shared object that the world loads."""

from __future__ import annotations

import ctypes
import re
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.resources import as_file, files
from pathlib import Path
from subprocess import CalledProcessError

from msgspec import Struct

from vfio_verify.errors import HarnessError, InputError
from vfio_verify.subject import driver, linking, messages
from vfio_verify.subject.debuginfo import undefined_names
from vfio_verify.subject.driver import Flags, find_compiler
from vfio_verify.subject.linking import Linked
from vfio_verify.subject.source import Source, branches, world_names
from vfio_verify.values.source_line import LeftOut
from vfio_verify.worker import sandbox
from vfio_verify.worker.sandbox import SandboxFeature, Start

WRAPPED = tuple(
    "mmap mmap64 munmap mprotect mremap madvise dup dup2 dup3 close close_range closefrom fclose open "  # noqa: SIM905
    "open64 openat fcntl syscall sysconf getpagesize "
    "malloc calloc realloc reallocarray free strdup strndup posix_memalign aligned_alloc memalign valloc brk sbrk "
    "asprintf vasprintf shmat shmdt exit _exit _Exit abort __assert_fail".split()
)
"""What the linker turns into `__wrap_NAME`, which the world defines."""

_MOST_PREPROCESSED = 64 << 20  # bytes

_FLAGS = (
    *("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-fPIC", "-pthread"),
    # QEMU is built with these two; without them a subject could behave as it never does there.
    *("-fno-strict-aliasing", "-fwrapv"),
    # A read or write through NULL is made, and seen, where the compiler could conclude that it never happens.
    "-fno-delete-null-pointer-checks",
    # Every call in the text is to be seen: no fortified twin, no allocation optimised away or merged.
    "-U_FORTIFY_SOURCE",
    *(f"-fno-builtin-{name}" for name in ("malloc", "calloc", "realloc", "free", "strdup", "strndup")),
    *(f"-fno-builtin-{name}" for name in ("aligned_alloc", "posix_memalign", "memalign", "exit", "abort")),
    # What calls the world, and where a crash is, is told by its line: each function has a frame that is linked to its
    # caller's, and returns to it.
    *("-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"),
    # No compiler that QEMU is built with lets these pass, and each makes a pointer out of an int. There is
    # no `-w`: it would silence these as well.
    *(f"-Werror={name}" for name in ("implicit-function-declaration", "implicit-int", "int-conversion")),
    # The world's types stand for QEMU's; a difference between them must not refuse a subject.
    "-Wno-error=incompatible-pointer-types",
    "-fmax-errors=20",
)
# Of parameters QEMU's build does not warn either; a type that differs may be the world's.
_WARNINGS = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-incompatible-pointer-types")
_PATTERNED, _ZEROED = "patterned.o", "zeroed.o"
_LINK_FLAGS = ("-shared", "-pthread", "-Wl,-Bsymbolic", "-Wl,--emit-relocs", "-Wl,-z,noexecstack")

_ASSEMBLED = re.compile(r"\.(?:incbin|include|macro|irpc?|rept|altmacro)\b", re.IGNORECASE)
"""What makes the assembler read a file, or hides that it does."""


class Library(Struct, frozen=True):
    """A subject as the world loads it."""

    path: Path
    """The shared object."""
    is_built_twice: bool
    """Whether it also has the subject with automatic variables that are zero until they are set."""
    left_out: tuple[LeftOut, ...]
    """What of the subject's functions was not compiled."""
    warnings: tuple[str, ...] = ()
    """What the compiler warns of in the function."""


def build(
    source: Source,
    directory: Path,
    *,
    parts: SandboxFeature = SandboxFeature.ALL,
    links: Sequence[str] = (),
    flags: Flags | None = None,
) -> Library:
    """Compile a subject to a shared object in an existing directory; nothing is written elsewhere. `links` are paths of
    shared libraries that it calls, and `flags` are those of `driver.flags_asked`.

    The compiler is confined by `parts` of the sandbox. Raises InputError if there is no compiler, if the text does
    not compile, if it uses names that neither the world nor the C library has, or reads a file that it may not.
    """
    directory = directory.resolve()
    compiler = find_compiler()
    linked = linking.read(links)
    text, library = directory / "subject.c", directory / "subject.so"
    library.unlink(missing_ok=True)
    text.write_text(source.unit, encoding="utf-8", errors="surrogateescape")  # file names are in it
    with as_file(files("vfio_verify") / "include") as include:
        programs = tuple(sandbox.used_by_compiler(compiler))
        start = Start(programs, (Path(include).resolve(), *source.readable), directory, parts)
        with nullcontext(flags) if flags else Flags(compiler, directory, parts) as asked:
            known = asked.known()
        command = _command(compiler, source.defines, include, source.text.directory)
        command += [*(word for flag in known if flag not in driver.VARIABLES for word in flag.split()), str(text)]
        try:
            if parts and not (parts & SandboxFeature.LANDLOCK and sandbox.landlock_version()):
                _refuse_foreign(source, command, start)
            objects, said = _compile(command, known, start)
            if linked:
                linking.prepare(
                    linked, library, WRAPPED, lambda options, at: driver.run([*compiler, *options], start, at)
                )
            wraps = [f"-Wl,--wrap={name}" for name in WRAPPED if not (linked and name in linking.ALLOCATORS)]
            told = driver.run([*compiler, *_LINK_FLAGS, *wraps, "-o", str(library), *objects], start)
        except CalledProcessError as failed:
            raise messages.refusal(source, failed.returncode, failed.output, parts) from None
        if not library.is_file():
            raise messages.refusal(source, 0, told, parts)
        _refuse_unresolved(source, library, linked)
        return Library(library, _ZEROED in objects, _left_out(source, command, start), messages.warnings(source, said))


def preprocess(
    text: Path,
    output: Path,
    *,
    defines: Sequence[str] = (),
    directory: str | None = None,
    systems: Sequence[Path] = (),
    readable: Sequence[Path] = (),
    parts: SandboxFeature = SandboxFeature.ALL,
) -> None:
    """Preprocess a C text as `build` does, for another tool, into a file of an existing directory. `directory` is that
    of files which the text includes by their names alone, and `systems` are those of a system's headers. Raises
    HarnessError."""
    compiler = find_compiler()
    with as_file(files("vfio_verify") / "include") as include:
        programs = tuple(sandbox.used_by_compiler(compiler))
        start = Start(programs, (Path(include).resolve(), text.parent, *systems, *readable), output.parent, parts)
        command = _command(compiler, defines, include, directory)
        command += [f"-isystem{system}" for system in systems]
        try:
            driver.run([*command, "-E", "-o", str(output), str(text)], start)
        except CalledProcessError as failed:
            raise HarnessError(f"the C compiler cannot preprocess {text}: {failed.output.strip()}") from None


def run_on(
    arguments: Sequence[str], directory: Path, *, readable: Sequence[Path] = (), parts: SandboxFeature
) -> str | None:
    """Run the C compiler in a directory, confined to that and to what it may read. What it says if it fails, else None.
    Raises InputError if there is none, or if it does not end."""
    compiler = find_compiler()
    start = Start(tuple(sandbox.used_by_compiler(compiler)), tuple(readable), directory, parts)
    try:
        driver.run([*compiler, *arguments], start, directory)
    except CalledProcessError as failed:
        return failed.output.strip() or f"it ends with status {failed.returncode}"
    return None


def _command(compiler: Sequence[str], defines: Sequence[str], include: Path, directory: str | None) -> list[str]:
    """The beginning of a compiler's command."""
    beside = [f"-iquote{directory}"] if directory else []
    return [*compiler, *(f"-D{define}" for define in defines), *_FLAGS, f"-I{include}", *beside]


def system_words(directory: Path, *, parts: SandboxFeature = SandboxFeature.ALL) -> frozenset[str]:
    """The words of the system's headers that the world includes; none where that cannot be told. What the compiler
    makes lies in the directory."""
    compiler = find_compiler()
    preprocessed = directory.resolve() / "system.i"
    with as_file(files("vfio_verify") / "include") as include:
        start = Start(tuple(sandbox.used_by_compiler(compiler)), (Path(include).resolve(),), directory.resolve(), parts)
        header = str(Path(include) / "vfio_verify" / "qemu.h")
        command = [*compiler, *_FLAGS, f"-I{include}", "-E", "-dD", "-P", "-o", str(preprocessed), "-x", "c", header]
        if not driver.succeeds(command, start):
            return frozenset()
    with preprocessed.open("rb") as file:
        return frozenset(re.findall(r"[A-Za-z_]\w*", file.read(_MOST_PREPROCESSED).decode("utf-8", "replace")))


def _compile(command: Sequence[str], known: Sequence[str], start: Start) -> tuple[list[str], str]:
    """Compile the text, twice where that can be done: with a pattern in automatic variables, and with zero. All names
    of the second object are its own, but for that of its entry. The objects that were made, and the warnings."""
    pattern = [driver.PATTERN] if driver.PATTERN in known else []
    twice = pattern and driver.ZERO in known and shutil.which("objcopy")
    commands = [[*command, *_WARNINGS, *pattern, "-c", "-o", _PATTERNED]]
    if twice:
        commands.append([*command, driver.ZERO, "-c", "-o", _ZEROED])
    with driver.beside(commands, start) as runs:
        said, *_ = [run.messages() for run in runs]
    entry = "vfio_verify_entry"
    rename = ["objcopy", f"--redefine-sym={entry}={entry}_zeroed", f"--keep-global-symbol={entry}_zeroed", _ZEROED]
    return [_PATTERNED, _ZEROED] if twice and driver.succeeds(rename, start) else [_PATTERNED], said


def _left_out(source: Source, command: Sequence[str], start: Start) -> tuple[LeftOut, ...]:
    """What the preprocessor leaves out of the subject's functions; nothing where that cannot be told."""
    parts = tuple(branches.branches_of(source.cut.kept, source.defines))
    preprocessed = start.writable / "subject.i"
    if not parts or not driver.succeeds([*command, "-E", "-o", str(preprocessed)], start) or not preprocessed.is_file():
        return ()
    with preprocessed.open("rb") as file:
        text = file.read(_MOST_PREPROCESSED)
    return branches.left_out(parts, text.decode("utf-8", "surrogateescape"))


def _refuse_foreign(source: Source, command: Sequence[str], start: Start) -> None:
    """Where the kernel does not: refuse a text that makes the compiler read files that are not its business."""
    name = source.target.name
    listed, assembly = start.writable / "subject.d", start.writable / "subject.s"
    driver.run([*command, "-M", "-MF", str(listed)], start)
    names = listed.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").partition(":")[2]
    known = (*start.programs, *start.readable, start.writable)
    for written in re.findall(r"(?:\\ |\S)+", names):
        path = (start.writable / written.replace("\\ ", " ")).resolve()
        if not any(path.is_relative_to(one) for one in known):
            raise InputError(f"{source.name}: {name}() includes {path}, which is refused. {sandbox.HINT}")
    driver.run([*command, "-S", "-o", str(assembly)], start)
    if found := _ASSEMBLED.search(assembly.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{source.name}: the assembler's {found[0]} is refused: this kernel cannot confine it. {sandbox.HINT}"
        )


def _refuse_unresolved(source: Source, library: Path, linked: Sequence[Linked]) -> None:
    """Refuse a library that has declared names which nobody defines, as far as that can be told."""
    c_library = ctypes.CDLL(None)
    declared = world_names.read_names().words.union(*(one.symbols for one in linked))
    missing = [
        name
        for name in undefined_names(library)
        if not name.startswith(("__wrap_", "__sanitizer_cov_"))
        and name not in declared
        and not hasattr(c_library, name)
    ]
    if missing:
        raise messages.unknown_names(source, {name: source.cut.first_use(name) for name in missing})
