"""A corpus in a directory: one JSON file for each entry, named by its content.

A file appears whole or not at all: it is written without a name, and gets its name when its bytes are on the disk. So
any number of processes may write to one corpus, and be killed at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from vfio_verify.corpus.entry import Entry, Kept, read_bytes, read_entry
from vfio_verify.errors import InputError

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
"""What open(2) answers where the file system has no O_TMPFILE, and linkat(2) where there is no /proc."""
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class DirectoryCorpus:
    """A directory of entries, at any depth, or one file. Its methods raise InputError if it cannot be read or written,
    or holds what is not an entry."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def shown(self) -> str:
        return str(self.path)

    def refuse_unwritable(self) -> None:
        """Raise InputError before the work is done, and not after it. The directory need not be there yet."""
        target = self.path.absolute()
        place = next(place for place in (target, *target.parents) if place.exists())
        if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
            raise InputError(f"cannot write to the corpus {self.shown}")

    def load(self) -> Iterator[Kept]:
        """Every entry, ordered by name. Raises InputError if there is none."""
        try:
            for path in entry_paths(self.path):
                with path.open("rb") as file:
                    data = read_bytes(file, str(path))
                yield Kept(str(path), read_entry(data, str(path)))
        except OSError as error:
            raise InputError(f"cannot read {error.filename or self.path}: {error.strerror}") from error

    def store(self, entry: Entry) -> str | None:
        """Keep an entry, and say where; when this returns, it is on the disk. None if it was there already."""
        path = self.path / entry.name
        try:
            _make_directory(self.path)
            place = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                written = _write_whole(place, entry.name, entry.to_json())
                os.fsync(place)
            finally:
                os.close(place)
            if written:
                return str(path)
            known = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot write to the corpus {self.shown}: {error.strerror}") from error
        if read_entry(known, str(path)).case != entry.case:
            raise InputError(f"{path} does not hold the case that it is named by")
        return None


def entry_paths(place: Path) -> Iterator[Path]:
    """The files of a corpus: a directory's .json files, at any depth and in order, or one file. Hidden ones are not
    read. Raises InputError if there is none, or a directory cannot be read."""

    def refuse(error: OSError) -> NoReturn:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error

    if place.is_file() or place.is_fifo() or place.is_char_device():
        yield place
        return
    if not place.is_dir():
        raise InputError(f"there is no corpus {place}")
    paths = []
    for directory, inside, files in os.walk(place, onerror=refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        names = [name for name in files if name.endswith(".json") and not name.startswith(".")]
        paths += [path for path in (Path(directory, name) for name in names) if path.is_file()]
    if not paths:
        raise InputError(f"there are no cases in {place}")
    yield from sorted(paths)


def _make_directory(directory: Path) -> None:
    """Make a directory that a crash of the machine does not take away again."""
    if directory.is_dir():
        return
    if directory.parent != directory:
        _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    above = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def _write_whole(place: int, name: str, data: bytes) -> bool:
    """Write a file that appears in a directory with all its bytes or not at all. False if it is there already."""
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=place)
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return _write_renamed(place, name, data)
    try:
        _write_all(fd, data)
        # open(2), O_TMPFILE: the way to name such a file that needs no privilege.
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=place, follow_symlinks=True)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_UNNAMED_FILES:
            raise
        return _write_renamed(place, name, data)
    finally:
        os.close(fd)
    return True


def _write_renamed(place: int, name: str, data: bytes) -> bool:
    """Store a text on a file system without unnamed files: a kill may leave a file beside it, which no corpus reads."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=place)
    try:
        _write_all(fd, data)
        return _named(place, temporary, name)
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):  # it has been renamed
            os.unlink(temporary, dir_fd=place)


def _named(place: int, temporary: str, name: str) -> bool:
    """Give a written file its name, too. False if there is one of that name."""
    try:
        os.link(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without links a name is taken over: by the same case, whoever else writes it at this moment.
        if name in os.listdir(place):
            return False
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    return True


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.fsync(fd)
