"""What confines a stranger's code: which files its worker may read, how a compiler is started, what the user is told.

A patch from a mailing list is the code of a stranger. Neither compiling nor running it may read the user's files,
write outside a private directory, start programs or use the network. The kernel's Landlock and seccomp see to that
without privileges. The worker confines itself (pyx/world/confine/worker.c); a compiler is started from a thread that
has confined itself, because both hold for a thread and what it starts, and the rest of this process stays free.
"""

from __future__ import annotations

import enum
import errno
import os
import platform
import shutil
import subprocess
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vfio_verify.errors import HarnessError, starting


class SandboxFeature(enum.IntFlag):
    """The parts of the sandbox; ``enum vv_confine_parts`` in pyx/world/confine/confine.h."""

    NONE = 0
    LANDLOCK = 1
    SECCOMP = 2
    LIMITS = 4
    ALL = 7


_STORES = ("/nix/store", "/gnu/store")
"""Where two distributions keep everything that others keep under /usr."""
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib")
_LOADER = ("/etc/ld.so.cache",)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_PROGRAMS = ("/usr", "/bin", "/sbin", *_LIBRARIES)
_CONFIGURATION = (*_LOADER, "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
_COMPILERS_PATHS = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "LD_LIBRARY_PATH")
"""Where the environment may tell a compiler of more directories."""
HINT = "The compiler runs confined. If it needs files from elsewhere, and you trust the code, check with --no-sandbox."

OFF_NOTE = "Not confined, as --no-sandbox asks: the compiler and the subject could do whatever you can."


class Confinement(Struct, frozen=True):
    """What is in force in a worker. An errno says why a part is missing; 0 if it is not."""

    landlock: int = 0
    """Its version, 0 if it is missing."""
    no_landlock: int = 0
    no_seccomp: int = 0
    no_forks: int = 0
    """Why nobody answers for the forks that a sequence asks for, which then fail."""

    @classmethod
    def unpack(cls, told: int) -> Confinement:
        """What ``vv_confine()`` returns."""
        return cls(*(told >> shift & 0xFFFF for shift in (0, 16, 32, 48)))

    def notes(self) -> tuple[str, ...]:
        """One line for each part that is missing."""
        notes = []
        if self.no_landlock:
            can = "read and write" if self.no_seccomp else "read"
            what = f"the compiler and the subject could {can} what you can"
            notes.append(f"Not confined by Landlock: {_why(self.no_landlock)}; {what}.")
        if self.no_seccomp:
            what = "the subject could start processes, send signals and use the network"
            notes.append(f"Not confined by seccomp: {_why(self.no_seccomp)}; {what}.")
        elif self.no_forks:
            notes.append(
                f"No sequence forks: for that the sandbox needs seccomp's notifications, and {_why(self.no_forks)}."
            )
        return tuple(notes)


def _why(error: int) -> str:
    kernel = f"this kernel ({platform.release()})"
    if error in (errno.ENOSYS, errno.EINVAL):
        return f"{kernel} lacks it, or a container hides it"
    if error == errno.EOPNOTSUPP:
        return f"{kernel} has it switched off, or this processor ({platform.machine()}) is not provided for"
    return f"{kernel} refuses it ({os.strerror(error)})"


# ---- paths ---------------------------------------------------------------------------------------------------


def readable_by_subject(library: Path | None) -> list[Path]:
    """What a worker may open: the system's libraries, and the subject's own."""
    own = [] if library is None else [library.resolve(), library.resolve().parent / "linked"]
    named = _directories(os.environ.get("LD_LIBRARY_PATH", ""))
    return _existing([*_LIBRARIES, *_STORES, *_LOADER, *_DEVICES, *named, *own])


def used_by_compiler(command: Sequence[str]) -> list[Path]:
    """What a compiler may read and execute: the system's programs and headers, its own installation, and what
    the user named together with it (``CC="ccache gcc --sysroot=/opt/arm"``)."""
    named = [path for name in _COMPILERS_PATHS for path in _directories(os.environ.get(name, ""))]
    for word in command:
        if not word.startswith("-") and (program := shutil.which(word)):
            named += [Path(program), *_prefix(Path(program)), *_prefix(Path(program).resolve())]
        elif "/" in word and not _is_personal(given := Path(word[word.index("/") :])):
            named.append(given)
    return _existing([*_PROGRAMS, *_STORES, *_CONFIGURATION, *named])


def _prefix(program: Path) -> list[Path]:
    """The directory of an installation: /opt/cc for /opt/cc/bin/gcc. A home directory is none."""
    prefix = program.parent.parent
    return [prefix] if program.parent.name == "bin" and not _is_personal(prefix) else []


def _directories(listed: str) -> list[Path]:
    """The directories of a list such as PATH, except those that hold a user's own files."""
    paths = [Path(one) for one in listed.split(":") if one.startswith("/")]
    return [path for path in paths if not _is_personal(path.resolve())]


def _is_personal(path: Path) -> bool:
    """Whether it is a home directory, one above it, or one in which programs keep what is a user's own."""
    homes = {Path(os.path.expanduser("~")).resolve(), Path("/root"), *Path("/home").glob("*")}
    private = {home / name for home in homes for name in (".", ".local", ".config", ".cache")}
    return any(one.is_relative_to(path.resolve()) for one in private) or path == Path("/tmp")


def _existing(paths: Iterable[str | Path]) -> list[Path]:
    """Each once, by its real name."""
    return list({Path(path).resolve(): None for path in paths if os.path.exists(path)})


# ---- a compiler ----------------------------------------------------------------------------------------------


class Start(Struct, frozen=True):
    """What a confined program may use: directories and files to read and execute, and one directory to write."""

    programs: tuple[Path, ...]
    readable: tuple[Path, ...]
    writable: Path
    parts: SandboxFeature = SandboxFeature.ALL

    def run(self, command: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
        """As subprocess.Popen, from a thread of its own that confines itself first."""
        started: list[subprocess.Popen[bytes]] = []
        failed: list[BaseException] = []

        def confine_and_start() -> None:
            try:
                self._confine()
                with starting("the compiler"):
                    started.append(subprocess.Popen(command, **arguments))
            except BaseException as error:  # noqa: BLE001  # raised where it is waited for
                failed.append(error)

        thread = threading.Thread(target=confine_and_start)
        with starting("the compiler"):
            thread.start()
        try:
            thread.join()
        except BaseException:
            thread.join()
            for process in started:
                process.kill()
                process.wait()
            raise
        if failed:
            raise failed[0]
        return started[0]

    def _confine(self) -> None:
        from vfio_verify import _world  # needed here alone: who compiles nothing need not load the world

        programs, readable = ([os.fsencode(path) for path in paths] for paths in (self.programs, self.readable))
        try:
            _world.confine_compiler(self.parts, programs, readable, os.fsencode(self.writable))
        except OSError as error:
            raise HarnessError(f"{error.strerror}: {os.strerror(error.errno or 0)}") from None


def landlock_version() -> int:
    """Landlock's version on this machine; 0 where it is missing."""
    from vfio_verify import _world

    return _world.landlock_version()
