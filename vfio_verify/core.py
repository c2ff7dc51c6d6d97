"""The reference implementation of the helper: a dmabuf's segments at one contiguous address.

    block = RamBlock(host=address, length=1 << 20, fd=device_fd, file_offset=region << 40)
    with map_dmabuf([(address, 4096), (address + 16384, 4096)], 8192, [block]) as placeholder:
        first_byte = memoryview(placeholder)[0]

The native part, which makes the system calls, is in pyx/_core.pyx.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from vfio_verify.errors import VfioVerifyError

try:
    from vfio_verify import _core
except ImportError as error:
    raise ImportError(
        "vfio_verify._core cannot be loaded: it is compiled when the package is installed. "
        "In a checkout, run `python -m pip install -e .` (it needs a C compiler)."
    ) from error

__all__ = [
    "Cause",
    "LayoutError",
    "MappingError",
    "Placeholder",
    "PlaceholderError",
    "RamBlock",
    "StateError",
    "ViewError",
    "map_dmabuf",
]


class Cause(enum.IntEnum):
    """Why a placeholder was not mapped, or not released. The values are core_map()'s, in C."""

    # The layout is refused, with a LayoutError.
    NO_SEGMENTS = 1
    """NOT_EMPTY: the iovec has no segments."""
    EMPTY_SEGMENT = 2
    """NOT_EMPTY: a segment's length is 0."""
    LENGTH_MISALIGNED = 3
    """ALIGNED: a length, not the last one, is no multiple of the page size."""
    LENGTH_OVERFLOW = 4
    """SIZE_AGREES: the lengths add up to 2**64 or more."""
    SIZE_MISMATCH = 5
    """SIZE_AGREES: the lengths do not add up to the total size."""
    SIZE_OVERFLOW = 6
    """SIZE_AGREES: the total size, rounded up to whole pages, is 2**64 or more."""
    NO_BLOCK = 7
    """SAME_BLOCK: no RAMBlock holds a segment's address."""
    OTHER_BLOCK = 8
    """SAME_BLOCK: a segment is not in the RAMBlock of the first one."""
    PAST_BLOCK = 9
    """WITHIN_BLOCK: a segment runs past its RAMBlock."""
    OFFSET_MISALIGNED = 10
    """ALIGNED: a segment's file offset is no multiple of the page size; see mmap(2), EINVAL."""
    OFFSET_OVERFLOW = 11
    """WITHIN_BLOCK: a segment ends beyond the largest file offset; see mmap(2), EOVERFLOW."""
    IOVEC_CHANGED = 12
    """CONFINED: somebody wrote to the iovec between the checks and the mapping."""

    # A step failed, with a MappingError.
    LOOKUP_FAILED = 13
    """FAULT_REPORTED: the RAMBlock look-up failed, for another reason than that there is none."""
    RESERVE_FAILED = 14
    """FAULT_REPORTED: mmap(2) of the reservation failed."""
    OVERLAY_FAILED = 15
    """FAULT_REPORTED: mmap(2) of a segment failed."""
    RELEASE_FAILED = 16
    """FAULT_REPORTED: munmap(2) failed."""

    # The placeholder is not in a state for what was asked.
    HELD = 17
    """It holds a mapping already: StateError."""
    CLOSED = 18
    """It holds none: StateError."""
    EXPORTED = 19
    """A buffer view of it is alive: ViewError."""


class PlaceholderError(VfioVerifyError):
    """Base of what this module raises about a placeholder."""

    cause: Cause
    message: str
    """Names the segment, if it is about one, and the cause. Neither empty nor ended by a newline."""
    segment: int | None = None
    """Position in the iovec, from 0; None where the failure is not one segment's."""


class LayoutError(PlaceholderError, ValueError):
    """The iovec, the total size and the blocks do not go together. Nothing was mapped to find out."""


class MappingError(PlaceholderError, OSError):
    """A system call or look-up failed; errno and strerror are its own."""

    def __str__(self) -> str:
        return f"{self.message}: {self.strerror}"


class StateError(PlaceholderError, ValueError):
    """The placeholder is closed, or is not empty."""


class ViewError(PlaceholderError, BufferError):
    """A view of the placeholder is still alive."""


def error_of(cause: Cause, segment: int | None, errno: int, message: str) -> PlaceholderError:
    """The exception for a cause; the only place that makes one."""
    error: PlaceholderError
    if cause <= Cause.IOVEC_CHANGED:
        error = LayoutError(message)
    elif cause <= Cause.RELEASE_FAILED:
        error = MappingError(errno, os.strerror(errno))
    elif cause is Cause.EXPORTED:
        error = ViewError(message)
    else:
        error = StateError(message)
    error.cause, error.segment, error.message = cause, segment, message
    return error


class RamBlock(msgspec.Struct, frozen=True):
    """Memory of a device, mapped in this process: [host, host + length) is [file_offset, +length) of fd.

    host is an address; length and file_offset are in bytes. ValueError: one of them is out of range, or the
    block ends beyond the last address.
    """

    host: int
    length: int
    fd: int
    file_offset: int

    def __post_init__(self) -> None:
        if not 1 <= self.length < 1 << 64:
            raise ValueError(f"length {self.length} of a RAMBlock is not between 1 and 2**64 - 1")
        if self.host < 0 or self.host + self.length > 1 << 64:
            raise ValueError(f"a RAMBlock of {self.length} bytes at {self.host:#x} is outside the address space")
        if not 0 <= self.fd < 1 << 31:
            raise ValueError(f"{self.fd} is no file descriptor")
        if not 0 <= self.file_offset < 1 << 64:
            raise ValueError(f"file offset {self.file_offset} of a RAMBlock is not between 0 and 2**64 - 1")


class Placeholder(_core.Placeholder):
    """One contiguous, read-only mapping of a dmabuf's segments, which this object owns.

    It supports the buffer protocol: memoryview(placeholder) has `size` bytes. Reading a page that the
    device no longer backs raises SIGBUS, as with any mapping of a file.

    It ends with close(), with a `with` block, or with the object. A child forked meanwhile inherits the
    mapping and never unmaps it. Placeholder() itself is closed; map_dmabuf() makes one that is not.
    """

    __slots__ = ("__weakref__",)

    def _error(self, cause: int, segment: int | None, error: int, message: str) -> PlaceholderError:
        return error_of(Cause(cause), segment, error, message)


def map_dmabuf(iovec: Sequence[tuple[int, int]], total_size: int, blocks: Sequence[RamBlock]) -> Placeholder:
    """Map the segments of `iovec`, in their order and without a gap, at one new address.

    Each segment is (address, length in bytes) and lies in one of `blocks`, all of them in the same one.
    Lengths and file offsets are multiples of the page size, but for the length of the last segment, whose
    last page is mapped whole (mmap(2) rounds up). `total_size` is the sum of the lengths.

    LayoutError: the layout breaks one of these rules. Lengths are checked first, then their sum, then each
    segment's RAMBlock; within a step the first segment at fault is named. MappingError: a system call
    failed. In both cases the address space is as it was. ValueError: two blocks overlap. OverflowError: a
    number is no 64-bit address or size.

    Rules: the clauses NOT_EMPTY, ALIGNED, SIZE_AGREES, SAME_BLOCK, WITHIN_BLOCK, UNMAP_ON_ERROR; mmap(2).
    """
    for low, high in pairwise(sorted(blocks, key=lambda block: block.host)):
        if low.host + low.length > high.host:
            raise ValueError(f"the RAMBlocks at {low.host:#x} and {high.host:#x} overlap")
    placeholder = Placeholder()
    placeholder._map(iovec, total_size, [(block.host, block.length, block.fd, block.file_offset) for block in blocks])
    return placeholder
