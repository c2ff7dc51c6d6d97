"""The memory that a worker and its owner share: a request goes in, and what is left in it is read.

A request lies in it before the worker is told of it, so what was asked is known whatever the subject does to its
process. It is a sealed memfd, which the owner reads and writes by system calls and does not map: what a worker does to
it, such as cutting it off, could reach the owner of a mapping as a signal. What is read is a copy, which no longer
changes while it is looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vfio_verify.errors import HarnessError
from vfio_verify.values.markup import printable
from vfio_verify.worker import native

_REPLY = native.PROGRESS_BYTES + native.REQUEST_BYTES
_COVERED = _REPLY + native.REPLY_BYTES
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Nobody cuts the memory off, makes it longer, or seals it against its owner."""


class SharedMemory:
    """Shared with the workers of one parent. Of `library` it holds which code ever ran: `covered` already did."""

    def __init__(self, library: Path | None, covered: bytes) -> None:
        # A library that is not there is refused when it is loaded.
        exists = library is not None and library.exists()
        self._code_bytes = min(library.stat().st_size, native.COVERED_BYTES) if library is not None and exists else 0
        self._fd = os.memfd_create("vfio-verify", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, _COVERED + native.COVERED_BYTES)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            self._write(_COVERED, covered)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._fd)

    @contextlib.contextmanager
    def opened_anew(self) -> Iterator[int]:
        """A descriptor for a worker's parent. The flags of an open file belong to all who share it, and with O_APPEND
        a request is not written where it should be."""
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def begin(self, request: bytes) -> None:
        """Put a request where the worker reads it, and forget what was said of the last one."""
        if len(request) > native.REQUEST_BYTES:
            raise HarnessError(f"a request of {len(request)} bytes is too large")
        self._write(native.PROGRESS_BYTES, request)
        self._write(8, bytes(native.PROGRESS.size - 8))  # the progress, all but the pid
        self._write(native.PROGRESS.size + native.NOTE_BYTES, bytes(native.PLACES.size))

    def progress(self) -> native.Progress:
        return native.Progress._make(native.PROGRESS.unpack(self._read(0, native.PROGRESS.size)))

    def places(self) -> native.Places:
        return native.Places.unpack(self._read(native.PROGRESS.size + native.NOTE_BYTES, native.PLACES.size))

    def note(self) -> str:
        """Why a worker says that it ended."""
        length = self.progress().note_bytes
        if length > native.NOTE_BYTES:
            return ""  # the subject wrote there
        return printable(self._read(native.PROGRESS.size, length).decode(errors="backslashreplace"))

    def reply(self, size: int) -> memoryview:
        """The first `size` bytes of the reply, as they are now."""
        return memoryview(self._read(_REPLY, min(size, native.REPLY_BYTES)))

    def log(self, offset: int, size: int) -> bytes:
        """A part of the log that concurrent calls keep in the second half of the reply, as it is now."""
        return self._read(_REPLY + native.LOG_AT + offset, size)

    def covered(self) -> bytes:
        """A byte for each place in the library, not 0 for those where a block began that ever ran."""
        return self._read(_COVERED, self._code_bytes).rstrip(b"\0")

    def mark_covered(self, places: Iterable[int], *, now: bool) -> None:
        """Let these places be covered, or not."""
        for place in places:
            if place < self._code_bytes:
                self._write(_COVERED + place, bytes([now]))

    def _write(self, offset: int, data: bytes) -> None:
        try:
            written = os.pwrite(self._fd, data, offset)
        except OSError as error:
            raise HarnessError(f"no memory for a request: {error.strerror}") from error
        if written != len(data):
            raise HarnessError("no memory for a request")

    def _read(self, offset: int, size: int) -> bytes:
        """A copy of what the worker wrote. What it has taken away, by a hole, is zeros."""
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise HarnessError(f"no memory for a reply: {error.strerror}") from error
