"""How the tree's own build compiles a file: the `-D` and `-I` of its compile_commands.json."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from vfio_verify.subject.source.tree import Directory

_PLACES = ("compile_commands.json", "build/compile_commands.json")
_LIMIT = 128 << 20  # bytes
# What the compiler is told here anyway, or what changes which calls it makes.
_OWN = re.compile(r"_GNU_SOURCE|_FORTIFY_SOURCE|_FILE_OFFSET_BITS|_LARGEFILE\w*|NDEBUG")


class Flags(Struct, frozen=True):
    """What a file is compiled with."""

    defines: tuple[str, ...] = ()
    """``NAME`` or ``NAME=VALUE`` each."""
    directories: tuple[str, ...] = ()
    """Where headers are looked for, as paths in the tree."""


class _Entry(Struct):
    directory: str
    file: str
    command: str = ""
    arguments: list[str] = []


def flags_for(tree: Directory, path: str) -> Flags:
    """The flags for a file of the tree; none if the tree was not built, or does not build it."""
    for place in _PLACES:
        for entry in _entries(tree.root / place):
            if os.path.normpath(tree.root / entry.directory / entry.file) == str(tree.root / path):
                return _flags(tree, entry)
    return Flags()


def _entries(file: Path) -> list[_Entry]:
    try:
        if not file.is_file() or file.stat().st_size > _LIMIT:
            return []
        return msgspec.json.decode(file.read_bytes(), type=list[_Entry])
    except (OSError, ValueError, RecursionError):
        return []


def _flags(tree: Directory, entry: _Entry) -> Flags:
    try:
        words = entry.arguments or shlex.split(entry.command)
    except ValueError:
        words = []
    found = list(_options(words))
    defines = dict.fromkeys(value for option, value in found if option == "-D" and not _OWN.match(value))
    named = (os.path.normpath(tree.root / entry.directory / value) for option, value in found if option != "-D")
    inside = (os.path.relpath(path, tree.root) for path in named if Path(path).is_relative_to(tree.root))
    usable = tuple(define for define in defines if re.fullmatch(r"[A-Za-z_]\w*(?:=[^\n\0]*)?", define))
    return Flags(usable, tuple(dict.fromkeys(inside)))


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Each `-D`, `-I`, `-iquote` and `-isystem` with its value."""
    for i, word in enumerate(words):
        for option in ("-D", "-I", "-iquote", "-isystem"):
            if word == option and i + 1 < len(words):
                yield option, words[i + 1]
            elif word.startswith(option) and word != option:
                yield option, word.removeprefix(option)
