"""The shared libraries that a subject calls (`--link`), made ready so that their system calls are seen.

A subject's own calls are renamed by the linker; a library is linked already. So its names are found elsewhere: the
libraries lie in a directory beside the subject, with `names.so`, which needs them all and defines `mmap` and others as
calls of the world's `__wrap_mmap`. The worker loads it with RTLD_DEEPBIND (pyx/world/serve.c), by which they look there
before the C library. Memory of the heap is theirs: it may be kept from one call to the next.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vfio_verify.errors import InputError

ALLOCATORS = frozenset(
    "malloc calloc realloc reallocarray free strdup strndup posix_memalign aligned_alloc memalign valloc "  # noqa: SIM905
    "asprintf vasprintf".split()
)
"""What neither a library nor the subject that calls it is given of the world: each may free what the other made."""

_ALIASES = {"fcntl64": "fcntl", "openat64": "openat", "__open_2": "open", "__open64_2": "open", "__openat_2": "openat"}
"""More names of the C library for what the world wraps."""
_NAME = """
extern long __wrap_{world}(long, long, long, long, long, long, long);
__attribute__((visibility("default"))) long {name}(long a, long b, long c, long d, long e, long f, long g)
{{
    return __wrap_{world}(a, b, c, d, e, f, g);
}}
"""
"""As many words are passed on as any of them takes: the number of a system call, and its six arguments."""
# Each call is a jump: the place that called stays the library's, and the seventh word stays where it is.
_FLAGS = ("-O2", "-fPIC", "-fno-builtin", "-foptimize-sibling-calls", "-fomit-frame-pointer", "-w", "-shared")
_LINKING = ("-nostdlib", "-Wl,-z,noexecstack", "-Wl,--no-as-needed", "-Wl,-rpath,$ORIGIN", "-L.")

_SONAME = re.compile(r"[\w.+-]{1,200}", re.ASCII)
_DIRECTORY, _OWN = "linked", "names.so"
_DF_1_PIE = 0x08000000
_MOST_BYTES = 512 << 20
_MOST_SYMBOLS = 1 << 18
_NO_LIBRARY = "it is an ELF file, but no shared library"


class Linked(Struct, frozen=True):
    """A shared library as it was given."""

    path: Path
    name: str
    """What others call it when they need it: its file is found by that name."""
    symbols: frozenset[str]
    """What it defines for others."""


def read(paths: Sequence[str]) -> list[Linked]:
    """Look at shared libraries. Raises InputError for what is none, or cannot be loaded on this machine."""
    found = [_read(path) for path in paths]
    for number, one in enumerate(found):
        if other := next((other for other in found[:number] if other.name == one.name), None):
            raise InputError(f"--link {one.path}: {other.path} has the same name, {one.name}")
    return found


def _read(path: str) -> Linked:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"--link {path}: it is no file")
            if status.st_size > _MOST_BYTES:
                raise InputError(f"--link {path}: it has more than {_MOST_BYTES >> 20} MiB")
            head = file.read(20)
            _refuse(path, head)
            soname, symbols = _dynamic(path, file)
    except (OSError, ValueError) as error:  # a NUL in a name is a ValueError
        raise InputError(f"--link {path}: {getattr(error, 'strerror', None) or error}") from None
    except InputError:
        raise
    except Exception:  # noqa: BLE001  what no linker has made can raise anything
        raise InputError(f"--link {path}: it is damaged: its dynamic section cannot be read") from None
    name = soname or Path(path).name
    if not _SONAME.fullmatch(name) or name == _OWN:
        raise InputError(f"--link {path}: {name!r} is no name for a library here; letters, digits and . + - _ are")
    return Linked(Path(path), name, symbols)


def _refuse(path: str, head: bytes) -> None:
    """Refuse what is no shared library of this machine, by the first bytes of its file."""
    if head.startswith(b"!<arch>"):
        raise InputError(
            f"--link {path}: it is a static archive; make a shared library of it: "
            "cc -shared -o FILE.so -Wl,--whole-archive FILE.a -Wl,--no-whole-archive"
        )
    if not head.startswith(b"\x7fELF") or len(head) < 20:
        raise InputError(f"--link {path}: it is no ELF file")
    with open("/proc/self/exe", "rb") as own:
        here = own.read(20)
    if head[4:6] != here[4:6] or head[18:20] != here[18:20]:
        raise InputError(f"--link {path}: it is for another kind of processor than this machine's")
    if head[16:18] != (3).to_bytes(2, sys.byteorder):  # ET_DYN
        raise InputError(f"--link {path}: {_NO_LIBRARY}")


def _dynamic(path: str, file: Any) -> tuple[str | None, frozenset[str]]:
    """The name that a library has for others, if any, and what it defines."""
    from elftools.elf.dynamic import DynamicSection  # most subjects call no library
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import SymbolTableSection

    soname: str | None = None
    symbols: set[str] = set()
    for section in ELFFile(file).iter_sections():
        if isinstance(section, DynamicSection):
            for tag in section.iter_tags("DT_SONAME"):
                soname = tag.soname  # type: ignore[attr-defined]  # pyelftools sets it for such tags
            if any(tag.entry.d_val & _DF_1_PIE for tag in section.iter_tags("DT_FLAGS_1")):
                raise InputError(f"--link {path}: {_NO_LIBRARY}")
        elif isinstance(section, SymbolTableSection) and section["sh_type"] == "SHT_DYNSYM":
            if section.num_symbols() > _MOST_SYMBOLS:
                raise InputError(f"--link {path}: it has more than {_MOST_SYMBOLS:,} symbols")
            symbols |= {symbol.name for symbol in section.iter_symbols() if symbol["st_shndx"] != "SHN_UNDEF"}
    return soname, frozenset(symbols)


def prepare(
    linked: Sequence[Linked], library: Path, wrapped: Iterable[str], compile_: Callable[[Sequence[str], Path], object]
) -> None:
    """Lay the libraries beside a subject that is to be built as `library`. `compile_` runs the compiler with options in
    a directory."""
    directory = library.parent / _DIRECTORY
    directory.mkdir(exist_ok=True)
    for one in linked:
        try:
            shutil.copyfile(one.path, directory / one.name)
        except OSError as error:
            raise InputError(f"--link {one.path}: it cannot be copied to {directory}: {error.strerror}") from None
    names = {name: name for name in wrapped if name not in ALLOCATORS} | _ALIASES
    text = "".join(_NAME.format(name=name, world=world) for name, world in names.items())
    library.with_name("names.c").write_text(text)
    compile_([*_FLAGS, *_LINKING, "-o", _OWN, "../names.c", *(f"-l:{one.name}" for one in linked)], directory)
