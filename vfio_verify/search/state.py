"""Where a search stands: what was done and found, so that the next one goes on from there.

On the disk it lies in a hidden directory of the corpus, in a file for each subject, policy, seed and part of the work,
and is replaced as a whole: a search may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from vfio_verify import __version__
from vfio_verify.campaign.options import Options
from vfio_verify.campaign.tally import Tally
from vfio_verify.errors import InputError
from vfio_verify.judge.attribution import Key
from vfio_verify.report.report import ViolationEntry
from vfio_verify.subject.subject import Subject

HIDDEN = ".vfio-verify"
"""No corpus reads a directory with such a name."""

_SECTIONS = struct.Struct("<40xQ10xHH2x")  # Elf64_Ehdr: e_shoff, e_shentsize, e_shnum
_SECTION = struct.Struct("<4xIQ8xQQ24x")  # Elf64_Shdr: sh_type, sh_flags, sh_offset, sh_size
_SHT_NOTE, _SHT_NOBITS, _SHF_ALLOC = 7, 8, 2


class Part(NamedTuple):
    """One of several parts of the work, `number` from 0: its shards are the campaign's with that remainder."""

    number: int = 0
    of: int = 1

    def __str__(self) -> str:
        return f"{self.number + 1}/{self.of}"


class Finding(Struct, frozen=True):
    """A confirmed violation, made small, and where it was met."""

    violation: ViolationEntry
    cause: str
    file: str | None
    """Its name in the corpus."""
    shard: int
    seconds: float
    """Of search, until it was met."""

    @property
    def key(self) -> Key:
        return self.violation.clause, self.cause


class State(Tally, Struct, tag_field="schema", tag="vfio-verify/search@1"):
    """What all searches so far add up to. A shard is in `done` when all that it showed is in here, and not before."""

    part: Part = Part()
    done: list[tuple[int, int]] = []
    """Ranges of this part's shards, by their place among these."""
    seconds: float = 0.0
    findings: list[Finding] = []
    settled: list[Key] = []
    """As they were met: of what is confirmed, the clause can be another."""
    unconfirmed: list[tuple[str, str, int]] = []
    """What was met and did not come again: clause, cause, and how often."""
    lost: list[int] = []
    """Shards whose process ended unexpectedly, each time."""

    def mark(self, index: int) -> None:
        """A shard is done."""
        ranges = sorted([*self.done, (index, index + 1)])
        self.done = [ranges[0]]
        for start, end in ranges[1:]:
            if start <= self.done[-1][1]:
                self.done[-1] = self.done[-1][0], max(end, self.done[-1][1])
            else:
                self.done.append((start, end))

    def add_shard(self, index: int, tally: Tally) -> None:
        """A shard is done, with what it came to."""
        if self.has(index * self.part.of + self.part.number):
            return
        self.mark(index)
        self.add(tally)

    def lose(self, index: int) -> None:
        """A shard's process ended unexpectedly, each time."""
        number = index * self.part.of + self.part.number
        if not self.has(number):
            self.lost = [*self.lost, number]
            self.mark(index)

    def keep(self, finding: Finding) -> None:
        """One finding for each way of violating a clause."""
        if finding.key not in self.keys:
            self.findings = [*self.findings, finding]

    @property
    def keys(self) -> set[Key]:
        """What is found."""
        return {finding.key for finding in self.findings}

    def settle(self, key: Key) -> None:
        """What was met in this way is confirmed."""
        self.settled = sorted({*self.settled, key})

    def doubt(self, key: Key) -> None:
        """What was met did not come again."""
        times = Counter({(clause, cause): n for clause, cause, n in self.unconfirmed})
        times[key] += 1
        self.unconfirmed = [(*key, n) for key, n in sorted(times.items())]

    def go_on(self, seconds: float) -> None:
        """So much more search."""
        self.seconds += seconds

    def has(self, number: int) -> bool:
        """Is a shard of the campaign one of this part's, and done?"""
        index, rest = divmod(number, self.part.of)
        return rest == self.part.number and any(start <= index < end for start, end in self.done)


Change = Callable[[State], None]
"""What a search adds to its state. Where shards and findings are known already, it adds nothing."""


def identity(subject: Subject) -> str:
    """A digest of the code that is run: what the compiler made of a subject, without debug information, which names
    the directory that it was compiled in."""
    library = subject.library or _core_library()
    data = library.read_bytes()
    digest = hashlib.sha256(subject.function.encode())
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


class Place(Protocol):
    """Where the state of one search is. Its methods raise InputError."""

    def taken(self) -> AbstractContextManager[None]:
        """Around all else."""

    def load(self) -> State:
        """What the last search left."""

    def reset(self) -> State:
        """Forget that."""

    def others(self) -> list[State]:
        """The states of other parts of the same work, as they are now."""

    def claim(self, number: int) -> bool:
        """May this search do this shard of the campaign? Not while another one does it."""

    def save(self, state: State, changes: Sequence[Change]) -> State:
        """Keep a state to which these changes were made, and say what it is now: others may have added to it."""


def digest(subject: Subject, options: Options) -> str:
    """Other policies and seeds make other searches; so does another version, which may generate other layouts."""
    what = (identity(subject), options.policy, options.seed, options.sandbox, __version__)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


class FilePlace:
    """The file of one search, or nowhere: then nothing is kept."""

    def __init__(self, corpus: Path | None, subject: Subject, options: Options, part: Part) -> None:
        self._digest = digest(subject, options)
        self._part = part
        self._directory = None if corpus is None else corpus / HIDDEN

    def _path(self, directory: Path) -> Path:
        return directory / f"{self._digest}-{self._part.number + 1}of{self._part.of}.json"

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Two searches for the same would do the same work. InputError if there is one already."""
        if self._directory is None:
            yield
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            lock = self._path(self._directory).with_suffix(".lock").open("a+")
        except OSError as error:
            raise InputError(
                f"cannot write to the corpus {self._directory.parent}: {error.strerror}; --corpus DIR names another"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise InputError(
                    f"this subject is being searched on {self._directory.parent} by process {lock.read().strip()}; "
                    "--jobs gives one search more processes, --shard 1/2 and 2/2 share the work between two"
                ) from None
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    def load(self) -> State:
        """What the last search left. Raises InputError."""
        if self._directory is None or not (path := self._path(self._directory)).exists():
            return State(part=self._part)
        return _read(path)

    def reset(self) -> State:
        """It is replaced when there is something new."""
        return State(part=self._part)

    def claim(self, _number: int) -> bool:
        """The search is `taken`: nobody else does its shards."""
        return True

    def others(self) -> list[State]:
        """The states of other parts of the same work, as they are now."""
        if self._directory is None:
            return []
        mine = self._path(self._directory)
        return [_read(path) for path in sorted(self._directory.glob(f"{self._digest}-*.json")) if path != mine]

    def save(self, state: State, _changes: Sequence[Change]) -> State:
        """Replace what is there. Raises InputError."""
        if self._directory is None:
            return state
        path = self._path(self._directory)
        temporary = path.with_suffix(".new")  # nobody else writes it: the search is `taken`
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(state))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return state


def _read(path: Path) -> State:
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; --fresh starts anew") from error


def decoded(data: bytes, name: str) -> State:
    """A state as it was kept. Raises InputError."""
    try:
        return msgspec.json.decode(data, type=State)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InputError(f"{name} does not say where a search stands: {error}; --fresh starts anew") from error
