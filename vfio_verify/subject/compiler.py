"""From a subject's C text to a shared object that the world loads."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path

from vfio_verify.errors import HarnessError, InputError, starting
from vfio_verify.subject.source import Source, branches, includes
from vfio_verify.subject.source.unit import ADAPTER_FILE
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

LIBRARY, _ZEROED = "subject.so", "zeroed.o"
_ENTRY = "vfio_verify_entry"
PREPROCESSED = "subject.i"
"""Beside the library: what the preprocessor makes of the text, where a condition can leave a part of a function out."""
_MOST_PREPROCESSED = 64 << 20
TIME_LIMIT = 60.0  # seconds; a unit of this kind takes well under one
_MEMORY_LIMIT = 4 << 20  # KiB of address space, for `ulimit -v`
_FILE_LIMIT = 512 << 10  # blocks of 512 bytes, for `ulimit -f`
_CPU_LIMIT = 120  # seconds, for `ulimit -t`; the limit on time ends it sooner
_SHOWN = 5
# The first two make files. What is preloaded is meant for this process: a sanitizer's runtime cannot start within
# the compiler's limit on address space.
_NOT_THE_COMPILERS = ("DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "LD_PRELOAD")

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
# What a variable that is never set holds is the same in each run. QEMU has zero there, which may be taken for success;
# a pattern is wrong nearly everywhere.
_PATTERN, _ZERO = "-ftrivial-auto-var-init=pattern", "-ftrivial-auto-var-init=zero"
_OPTIONAL_FLAGS = (
    # Each block tells the world that it runs (pyx/world/where.c); clang leaves some of them out unless told otherwise.
    "-fsanitize-coverage=trace-pc",
    "-fsanitize-coverage=no-prune",
    _PATTERN,
    _ZERO,
    # Clang would make one call of two that are alike, as those of error_setg() are.
    *("-mllvm -simplifycfg-sink-common=false", "-mllvm -enable-tail-merge=false"),
    "-fno-diagnostics-show-caret",
    "-fno-caret-diagnostics",
    "-fno-diagnostics-show-option",
)
_LINK_FLAGS = (
    *("-shared", "-pthread", "-Wl,-Bsymbolic", "-Wl,--emit-relocs", "-Wl,-z,noexecstack"),
    *(f"-Wl,--wrap={name}" for name in WRAPPED),
)

_ERROR = re.compile(r"^(?P<file>.+?):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: (?P<text>.*)$")
_UNKNOWN = re.compile(
    r"implicit declaration of function '(?P<a>\w+)'|call to undeclared (?:library )?function '(?P<b>\w+)'"
    r"|'(?P<c>\w+)' undeclared|use of undeclared identifier '(?P<d>\w+)'|unknown type name '(?P<e>\w+)'"
    r"|(?:invalid use of|dereferencing pointer to) (?:undefined|incomplete) type "
    r"'(?:struct |union )?(?P<f>\w+)"
    r"|incomplete (?:definition of )?type '(?:struct |union )?(?P<g>\w+)"
    r"|'(?P<h>\w+)' has (?:an )?incomplete type"
)
_CONFINED = re.compile(
    r"Permission denied|Operation not permitted|file not found: /|[Cc]an(?:'t|not) open|cannot execute"
)
"""How a compiler complains of what its sandbox refuses."""
_ASSEMBLED = re.compile(r"\.(?:incbin|include|macro|irpc?|rept|altmacro)\b", re.IGNORECASE)
"""What makes the assembler read a file, or hides that it does."""
_NO_MEMBER = re.compile(
    r"'(?:const )?(?:struct |union )?(?P<a>\w+)'[^']*(?:'[^']*'\})? has no member named '(?P<b>\w+)'"
    r"|no member named '(?P<c>\w+)' in '(?:struct |union )?(?P<d>\w+)'"
)


def find_compiler() -> list[str]:
    """The command of the machine's C compiler: $CC, else cc, gcc or clang. InputError if there is none."""
    given = os.environ.get("CC", "").strip()
    try:
        command = shlex.split(given)
    except ValueError as error:
        raise InputError(f"CC={given} cannot be read as a command: {error}") from None
    tried = [command[0]] if command else ["cc", "gcc", "clang"]
    for name in tried:
        if shutil.which(name):
            return command or [name]
    source = "CC names" if command else "tried"
    raise InputError(
        f"no C compiler found ({source} {', '.join(tried)}). A C subject needs one. On Debian: "
        "apt-get install gcc libc6-dev; elsewhere install your distribution's C compiler"
    )


def build(source: Source, directory: Path, *, parts: SandboxFeature = SandboxFeature.ALL) -> Path:
    """Compile a subject to `subject.so` in an existing directory; nothing is written elsewhere.

    The compiler is confined by `parts` of the sandbox. Raises InputError if there is no compiler, if the text does
    not compile, if it uses names that neither the world nor the C library has, or reads a file that it may not.
    """
    directory = directory.resolve()
    compiler = find_compiler()
    text, result = directory / "subject.c", directory / LIBRARY
    result.unlink(missing_ok=True)
    text.write_text(source.unit, encoding="utf-8", errors="surrogateescape")  # file names are in it
    with as_file(files("vfio_verify") / "include") as include:
        places = [Path(one) for one in source.include_dirs] if parts else []
        own = [path for one in places for path in includes.named_by(source.unit, one)]
        programs = tuple(sandbox.used_by_compiler(compiler))
        start = Start(programs, (Path(include).resolve(), *own), directory, parts)
        flags = [*_FLAGS, *_optional_flags(compiler, start)]
        flags += [f"-I{include}", *(f"-iquote{one}" for one in source.include_dirs)]
        if parts and not (parts & SandboxFeature.LANDLOCK and sandbox.landlock_version()):
            _refuse_foreign(source, [*compiler, *flags, str(text)], start)
        status, messages = _compile([*compiler, *flags], compiler, start)
        if status == 0 and result.is_file():
            _refuse_unresolved(source, result, Path(include), start)
            if source.branches:
                _run([*compiler, *flags, "-E", "-o", str(directory / PREPROCESSED), str(text)], start, TIME_LIMIT)
            return result
    raise _refusal(source, status, messages, parts)


def is_built_twice(library: Path) -> bool:
    """Has a library its subject also with automatic variables that are zero until they are set?"""
    return (library.parent / _ZEROED).is_file()


def _compile(command: Sequence[str], compiler: Sequence[str], start: Start) -> tuple[int, str]:
    """The text as one shared object, which has it twice where the compiler can: the second one's names are its own, but
    for that of its entry. The status and messages of what failed, or of all."""
    directory = start.writable
    text, patterned, zeroed = directory / "subject.c", directory / "subject.o", directory / _ZEROED
    zeroed.unlink(missing_ok=True)
    flags = [flag for flag in command if flag != _ZERO]
    commands = [[*flags, "-c", "-o", str(patterned), str(text)]]
    if _ZERO in command and _PATTERN in command and shutil.which("objcopy"):
        commands.append([*(flag for flag in command if flag != _PATTERN), "-c", "-o", str(zeroed), str(text)])
    ended = _run_all(commands, start)
    if failed := [one for one in ended if one[0] != 0]:
        return failed[0]
    objects = [str(patterned)]
    if zeroed.is_file():
        rename = f"--redefine-sym={_ENTRY}={_ENTRY}_zeroed"
        ended.append(_run(["objcopy", rename, f"--keep-global-symbol={_ENTRY}_zeroed", str(zeroed)], start, TIME_LIMIT))
        if ended[-1][0] == 0:
            objects.append(str(zeroed))
        else:
            zeroed.unlink()
    return _run([*compiler, *_LINK_FLAGS, "-o", str(directory / LIBRARY), *objects], start, TIME_LIMIT)


def left_out(source: Source, library: Path) -> tuple[LeftOut, ...]:
    """The parts of a subject's functions that were not compiled into its library."""
    if not source.branches:
        return ()
    try:
        with (library.parent / PREPROCESSED).open("rb") as file:
            text = file.read(_MOST_PREPROCESSED)
    except OSError:
        return ()
    return branches.left_out(source.branches, text.decode("utf-8", "surrogateescape"))


def _refuse_foreign(source: Source, command: Sequence[str], start: Start) -> None:
    """Where the kernel does not: refuse a text that makes the compiler read files that are not its business."""
    listed, assembly = start.writable / "subject.d", start.writable / "subject.s"
    _checked(source, _run([*command, "-M", "-MF", str(listed)], start, TIME_LIMIT), start)
    names = listed.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ").partition(":")[2]
    known = (*start.programs, *start.readable, start.writable)
    for name in re.findall(r"(?:\\ |\S)+", names):
        path = (start.writable / name.replace("\\ ", " ")).resolve()
        if not any(path.is_relative_to(one) for one in known):
            raise InputError(f"{source.name}: {source.function}() includes {path}, which is refused. {sandbox.HINT}")
    _checked(source, _run([*command, "-S", "-o", str(assembly)], start, TIME_LIMIT), start)
    if found := _ASSEMBLED.search(assembly.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{source.name}: the assembler's {found[0]} is refused: this kernel cannot confine it. {sandbox.HINT}"
        )


def _checked(source: Source, ended: tuple[int, str], start: Start) -> None:
    status, messages = ended
    if status != 0:
        raise _refusal(source, status, messages, start.parts)


def _run_all(commands: Sequence[Sequence[str]], start: Start) -> list[tuple[int, str]]:
    """Run compilers side by side."""
    with starting("the compiler"), ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda command: _run(command, start, TIME_LIMIT), commands))


def _run(command: Sequence[str], start: Start, seconds: float) -> tuple[int, str]:
    """Run a compiler confined, with limits on time, memory and output; its status and its messages."""
    directory = start.writable
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_THE_COMPILERS}
    environment |= {"LC_ALL": "C", "TMPDIR": str(directory)}
    if start.parts:
        environment["CCACHE_DISABLE"] = "1"  # it would write into the user's cache
    limits = {"v": _MEMORY_LIMIT, "f": _FILE_LIMIT, "t": _CPU_LIMIT, "c": 0}
    limited = "".join(f"ulimit -{letter} {value}; " for letter, value in limits.items()) + 'exec "$@"'
    with tempfile.TemporaryFile(dir=directory) as output:  # without a name that the compiler could make another file's
        process = start.run(
            ["/bin/sh", "-c", limited, "sh", *command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"the C compiler did not finish within {seconds:g} seconds; the input makes it work without end"
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the driver's own children too
                process.wait()
        output.seek(0)
        return status, output.read(1 << 20).decode("utf-8", "replace")


_known_flags: dict[tuple[object, ...], list[str]] = {}
"""The optional flags that a compiler knows, by its command and its program's file: asked once by a process."""


def _optional_flags(compiler: Sequence[str], start: Start) -> list[str]:
    """Those of the optional flags that this compiler knows."""
    program = os.stat(shutil.which(compiler[0]) or compiler[0])
    asked = (*compiler, program.st_ino, program.st_mtime_ns, start.parts)
    if asked not in _known_flags:
        probe = start.writable / "probe.c"
        probe.write_text("int probe;\n", encoding="ascii")
        questions = [[*compiler, "-Werror", *flag.split(), "-fsyntax-only", str(probe)] for flag in _OPTIONAL_FLAGS]
        answers = _run_all(questions, start)
        probe.unlink()
        known = [flag for flag, (status, _) in zip(_OPTIONAL_FLAGS, answers, strict=True) if status == 0]
        _known_flags[asked] = [word for flag in known for word in flag.split()]
    return _known_flags[asked]


def _refusal(source: Source, status: int, messages: str, parts: SandboxFeature) -> InputError:
    unknown: dict[str, str] = {}
    errors: list[str] = []
    in_adapter = False
    for line in messages.splitlines():
        match = _ERROR.match(line)
        if not match:
            continue
        place = f"{match.group('file')}:{match.group('line')}"
        names = _UNKNOWN.search(match.group("text"))
        field = _NO_MEMBER.search(match.group("text"))
        if match.group("file") == ADAPTER_FILE:
            in_adapter = True
        elif field and (owner := field["a"] or field["d"]) and not _defines(source, owner):
            unknown.setdefault(f"{owner}.{field['b'] or field['c']}", place)
        elif names and (name := next(filter(None, names.groups()))):
            unknown.setdefault(name, place)
        else:
            errors.append(f"{place}: {match.group('text')}")
    if unknown:
        return _unknown_names(unknown)
    if in_adapter and not errors:
        return InputError(
            f"{source.file}:{source.line}: {source.function}() is there, "
            "but its #if leaves it out when it is compiled; "
            "define what the condition asks for at the top of the file"
        )
    hint = f"\n{sandbox.HINT}" if parts and _CONFINED.search(messages) else ""
    if not errors:
        # Not an error in the text: the linker, a signal, a limit.
        tail = "; ".join(messages.strip().splitlines()[-3:]) or "no message"
        return InputError(f"{source.name}: the C compiler failed (status {status}): {tail}{hint}")
    more = f"\n  and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    listed = "".join(f"\n  {error}" for error in errors[:_SHOWN])
    return InputError(f"{source.name}: {source.function}() does not compile:{listed}{more}{hint}")


def _defines(source: Source, name: str) -> bool:
    return f"VFIO_VERIFY_SOURCE_DEFINES_{name} " in source.unit


def _unknown_names(unknown: dict[str, str]) -> InputError:
    lines = [f"the world does not know `{name}` ({place})" for name, place in list(unknown.items())[:_SHOWN]]
    if len(unknown) > _SHOWN:
        lines.append(f"nor {len(unknown) - _SHOWN} other names")
    lines.append("Define such names in the file that you give, or open an issue so that the world learns them.")
    return InputError("\n".join(lines))


def _refuse_unresolved(source: Source, library: Path, include: Path, start: Start) -> None:
    """Refuse a library that has declared names which nobody defines, as far as that can be told."""
    if not shutil.which("nm"):
        return  # loading it will tell
    status, listed = _run(["nm", "-D", "--undefined-only", "--format=posix", str(library)], start, TIME_LIMIT)
    if status != 0:
        raise HarnessError(f"nm cannot read the compiled subject: {listed.strip()}")
    symbols = [match.groups() for match in re.finditer(r"^(\w+)(?:@\S+)? (\w)", listed, re.MULTILINE)]
    declared = set()
    for header in include.rglob("*.h"):
        declared.update(re.findall(r"\w+", header.read_text(encoding="utf-8")))
    c_library = ctypes.CDLL(None)
    missing = [
        name
        for name, kind in symbols
        if kind == "U"
        and not name.startswith(("__wrap_", "__sanitizer_cov_"))
        and name not in declared
        and not hasattr(c_library, name)
    ]
    if missing:
        raise _unknown_names({name: _first_use(source.unit, name) for name in missing})


def _first_use(unit: str, name: str) -> str:
    """File and line of the first call of a name in the unit's text, by its `#line` markers."""
    file, line, declared = "?", 0, ""
    call = re.compile(rf"\b{name}\b")
    for written in unit.split("\n"):
        if marker := re.match(r'#line (\d+) "(.*)"', written):
            line, file = int(marker.group(1)), marker.group(2)
            continue
        if call.search(written) and file != "?":
            declared = f"{file}:{line}"
            if not re.match(r"(?:extern|[A-Za-z_]\w*\s[\w\s*]*\b" + name + r"\s*\()", written):
                return declared
        line += 1
    return declared or "?"
