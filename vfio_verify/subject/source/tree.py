"""A source tree beside the subject: files of a directory, or of a commit by git's plumbing, which touches no work tree.

Neither a tree nor a patch is trusted: nothing outside of the tree is read, and nothing that it configures is run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO

from vfio_verify.errors import InputError
from vfio_verify.subject.source import raw

_SUFFIXES = (".c", ".h", ".inc")
_MOST_FILES = 200_000
_LARGEST = 4 << 20  # bytes of a file in which names are looked for
_TIME_LIMIT = 60.0  # seconds, for one command of git's
# What a repository's own configuration could have git run or fetch.
_GIT = ("git", "--no-pager", "--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")
_GIT_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}


def open_tree(given: str) -> Tree:
    """The tree that ``DIR`` or ``DIR@COMMIT`` names. Raises InputError if there is none."""
    if os.path.isdir(given):
        return Directory(given)
    directory, at, commit = given.rpartition("@")
    if at and os.path.isdir(directory or "."):
        return Commit(directory or ".", commit)
    raise InputError(f"--tree {given}: no such directory; write DIR, or DIR@COMMIT")


class Tree(ABC):
    """Files of C, by their paths from the tree's root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._texts: dict[str, str | None] = {}

    def read(self, path: str) -> str | None:
        """A file's text; None if there is no such file. Raises InputError for a path that leads out of the tree."""
        if path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path:
            raise InputError(f"{path} is a path out of the tree, which is refused")
        path = str(PurePosixPath(path))
        if path not in self._texts:
            data = self._read(path)
            if data is not None and len(data) > raw.LIMIT:
                raise InputError(f"{self.name}: {path} is larger than {raw.LIMIT >> 20} MiB, the most that is read")
            self._texts[path] = None if data is None or b"\0" in data else raw.decoded(data)
        return self._texts[path]

    @abstractmethod
    def _read(self, path: str) -> bytes | None: ...

    @abstractmethod
    def holding(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The paths of C files in which any of these words stands, and what they hold."""


class Directory(Tree):
    """A directory as it is, whether git knows it or not."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.root = Path(name).resolve()

    def _read(self, path: str) -> bytes | None:
        try:
            real = Path(os.path.realpath(self.root / path))  # resolve() raises for a loop of links
            if not real.is_file():
                return None
            if not real.is_relative_to(self.root):
                raise InputError(f"{self.name}: {path} is a link out of the tree, which is refused")
            with real.open("rb") as file:
                return file.read(raw.LIMIT + 1)
        except (OSError, ValueError):
            return None

    @cached_property
    def _paths(self) -> list[str]:
        found: list[str] = []
        for directory, below, files in os.walk(self.root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            found += [os.path.join(directory, name) for name in sorted(files) if name.endswith(_SUFFIXES)]
            if len(found) > _MOST_FILES:
                raise InputError(f"--tree {self.name} has more than {_MOST_FILES:,} C files; name a smaller directory")
        return found

    def holding(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        wanted = [name.encode() for name in names]
        for path in self._paths:
            data = _contents(path)
            if any(name in data for name in wanted):  # a scan for many words at once would be slower
                yield os.path.relpath(path, self.root), data


def _contents(path: str) -> bytes:
    """A file's bytes; none of a link, of what is no file, and of what is too large to be source text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        size = os.fstat(descriptor).st_size
        return os.read(descriptor, size) if 0 < size <= _LARGEST else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class Commit(Tree):
    """A commit of a repository. The work tree and the index are not looked at."""

    def __init__(self, directory: str, commit: str) -> None:
        super().__init__(f"{directory}@{commit}")
        self.directory = directory
        if not shutil.which("git"):
            raise InputError(f"--tree {self.name}: git is not installed")
        found = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
        if not re.fullmatch(rb"[0-9a-f]{40,64}\n", found):
            raise InputError(f"--tree {self.name}: {directory} is no git repository, or has no commit {commit}")
        self.commit = found.decode().strip()

    @cached_property
    def _blobs(self) -> dict[str, str]:
        """The hash of each file by its path. A link is none, though it is a blob: what it holds is a path."""
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", self.commit).decode("utf-8", "surrogateescape")
        entries = (entry.partition("\t") for entry in listed.split("\0"))
        return {path: about.split(" ")[2] for about, _, path in entries if about.startswith("100")}

    def _read(self, path: str) -> bytes | None:
        blob = self._blobs.get(path)
        return None if blob is None else self._git("cat-file", "blob", blob)

    def holding(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        words = [word for name in sorted(names) for word in ("-e", name)]
        how = ("-l", "-z", "-w", "-F", "-I", "--no-textconv", "--no-recurse-submodules")
        listed = self._git("grep", *how, *words, self.commit, "--", *(f"*{suffix}" for suffix in _SUFFIXES))
        names_of = (
            path.removeprefix(f"{self.commit}:") for path in listed.decode("utf-8", "surrogateescape").split("\0")
        )
        paths = [path for path in sorted(names_of) if path in self._blobs]
        with self._started("cat-file", "--batch", given="".join(f"{self._blobs[path]}\n" for path in paths)) as output:
            for path in paths:
                _, _, size = output.readline().rpartition(b" ")
                if not size.strip().isdigit():
                    continue  # it is missing
                left = int(size) + 1  # a newline ends each
                if left <= _LARGEST:
                    yield path, output.read(left)[:-1]
                    continue
                while left and (piece := output.read(min(left, _LARGEST))):
                    left -= len(piece)

    def _git(self, *arguments: str) -> bytes:
        """What a command of git's prints, up to the limit; nothing if it fails."""
        with self._started(*arguments) as output:
            return output.read(raw.LIMIT + 1)

    @contextmanager
    def _started(self, *arguments: str, given: str = "") -> Iterator[IO[bytes]]:
        """The output of a command of git's, which is ended after it."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        with tempfile.TemporaryFile() as asked:
            asked.write(given.encode())
            asked.seek(0)
            process = subprocess.Popen(
                [*_GIT, "-C", self.directory, *arguments],
                env=environment | _GIT_ENVIRONMENT,
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        timer = threading.Timer(_TIME_LIMIT, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            try:
                yield process.stdout
            finally:
                timer.cancel()
                process.kill()
