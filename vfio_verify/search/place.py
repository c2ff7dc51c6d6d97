"""Where the state of a search is kept between searches: nowhere, or in a directory of the corpus.

There it is in a file for each subject, policy, seed and part of the work, which is replaced as a whole: a search may be
killed at any moment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import msgspec

from vfio_verify import __version__
from vfio_verify.campaign.options import Options
from vfio_verify.errors import InputError
from vfio_verify.search.state import Change, Part, State
from vfio_verify.subject.subject import Subject
from vfio_verify.values.markup import shortened

HIDDEN = ".vfio-verify"
"""No corpus reads a directory with such a name."""

_SECTIONS = struct.Struct("<40xQ10xHH2x")  # Elf64_Ehdr: e_shoff, e_shentsize, e_shnum
_SECTION = struct.Struct("<4xIQ8xQQ24x")  # Elf64_Shdr: sh_type, sh_flags, sh_offset, sh_size
_SHT_NOTE, _SHT_NOBITS, _SHF_ALLOC = 7, 8, 2


class Place:
    """Where the state of one part of a search is: here nowhere, so that it is forgotten. Methods of the other places
    raise InputError."""

    def __init__(self, part: Part) -> None:
        self._part = part

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the place while a search goes on."""
        yield

    def load(self) -> State:
        """What the last search left."""
        return State(part=self._part)

    def reset(self) -> State:
        """Forget what the last search left."""
        return State(part=self._part)

    def others(self) -> list[State]:
        """The states of other parts of the same work, as they are now."""
        return []

    def claim(self, _number: int) -> bool:
        """Whether this search may do this shard of the campaign, since no other one does it."""
        return True

    def save(self, state: State, _changes: Sequence[Change]) -> State:
        """Keep a state to which these changes were made. The answer is what it is now: others may have added to it."""
        return state


class FilePlace(Place):
    """A file in a hidden directory of the corpus, which one search has at a time."""

    def __init__(self, corpus: Path, subject: Subject, options: Options, part: Part) -> None:
        super().__init__(part)
        self._digest = digest(subject, options)
        self._path = corpus / HIDDEN / f"{self._digest}-{part.number + 1}of{part.of}.json"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Lock the file: two searches for the same would do the same work. InputError if there is one already."""
        corpus = self._path.parent.parent
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_suffix(".lock").open("a+")
        except OSError as error:
            raise InputError(
                f"cannot write to the corpus {corpus}: {error.strerror}; --corpus DIR names another"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise InputError(
                    f"this subject is being searched on {corpus} by process {lock.read().strip()}; "
                    "--jobs gives one search more processes, --shard 1/2 and 2/2 share the work between two"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def load(self) -> State:
        return _read(self._path) if self._path.exists() else super().load()

    def others(self) -> list[State]:
        paths = sorted(self._path.parent.glob(f"{self._digest}-*.json"))
        return [_read(path) for path in paths if path != self._path]

    def save(self, state: State, _changes: Sequence[Change]) -> State:
        temporary = self._path.with_suffix(".new")  # nobody else writes it: the place is taken
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise InputError(f"cannot write {self._path}: {error.strerror}") from error
        return state


def _read(path: Path) -> State:
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; --fresh starts anew") from error


def decoded(data: bytes, name: str) -> State:
    """Read a state from the bytes that were kept. InputError if they are none."""
    try:
        return msgspec.json.decode(data, type=State)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(
            f"{name} does not say where a search stands: {shortened(str(error))}; --fresh starts anew"
        ) from error


# ---- which search it is -------------------------------------------------------------------------------------------


def digest(subject: Subject, options: Options) -> str:
    """A digest that is the same for the same search. Another policy or seed, or another convention, makes another
    search, and so does another version, which may generate other layouts."""
    what = (identity(subject), options.policy, options.seed, options.sandbox, __version__, *subject.assume)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def identity(subject: Subject) -> str:
    """A digest of the code that is run: what the compiler made of a subject, without the debug information, which names
    the directory of the compilation."""
    library = subject.library or _core_library()
    digest = hashlib.sha256(subject.function.encode())
    for path in subject.linked:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    data = library.read_bytes()
    offset, size, number = _SECTIONS.unpack_from(data)
    for i in range(number):
        kind, flags, start, length = _SECTION.unpack_from(data, offset + i * size)
        if flags & _SHF_ALLOC and kind != _SHT_NOTE:
            digest.update(b"%d %d %d " % (kind, flags, length))
            digest.update(b"" if kind == _SHT_NOBITS else data[start : start + length])
    return digest.hexdigest()


def _core_library() -> Path:
    spec = find_spec("vfio_verify._core")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)
