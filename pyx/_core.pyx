# cython: auto_pickle=False, cdivision=True
"""The reference helper: one reservation, overlaid segment by segment, and the object that owns it.

What needs no native code (exceptions, value types, their checks) is in vfio_verify/core.py.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.number cimport PyNumber_Index
from libc.errno cimport EFAULT, errno
from libc.limits cimport UINT_MAX
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdio cimport snprintf
from posix.mman cimport (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    mmap,
    munmap,
)
from posix.types cimport off_t, pid_t
from posix.unistd cimport _SC_PAGESIZE, getpid, sysconf


cdef extern from "<sys/uio.h>" nogil:
    struct c_iovec "iovec":
        void *iov_base
        size_t iov_len


cdef extern from "core_calls.h" nogil:
    struct core_block:
        uintptr_t host
        uint64_t length
        int fd
        uint64_t file_offset
        uint64_t id

    struct core_calls:
        void *(*mmap)(void *, size_t, int, int, int, off_t) noexcept nogil
        int (*munmap)(void *, size_t) noexcept nogil
        int (*resolve)(void *, uintptr_t, core_block *) noexcept nogil
        void *context
        size_t page_size


# Codes of vfio_verify.core.Cause, which says what each one means.
cdef enum core_cause:
    NO_FAILURE = 0
    NO_SEGMENTS = 1
    EMPTY_SEGMENT = 2
    LENGTH_MISALIGNED = 3
    LENGTH_OVERFLOW = 4
    SIZE_MISMATCH = 5
    SIZE_OVERFLOW = 6
    NO_BLOCK = 7
    OTHER_BLOCK = 8
    PAST_BLOCK = 9
    OFFSET_MISALIGNED = 10
    OFFSET_OVERFLOW = 11
    IOVEC_CHANGED = 12
    LOOKUP_FAILED = 13
    RESERVE_FAILED = 14
    OVERLAY_FAILED = 15
    RELEASE_FAILED = 16
    HELD = 17
    CLOSED = 18
    EXPORTED = 19

CAUSES = {
    "NO_SEGMENTS": NO_SEGMENTS,
    "EMPTY_SEGMENT": EMPTY_SEGMENT,
    "LENGTH_MISALIGNED": LENGTH_MISALIGNED,
    "LENGTH_OVERFLOW": LENGTH_OVERFLOW,
    "SIZE_MISMATCH": SIZE_MISMATCH,
    "SIZE_OVERFLOW": SIZE_OVERFLOW,
    "NO_BLOCK": NO_BLOCK,
    "OTHER_BLOCK": OTHER_BLOCK,
    "PAST_BLOCK": PAST_BLOCK,
    "OFFSET_MISALIGNED": OFFSET_MISALIGNED,
    "OFFSET_OVERFLOW": OFFSET_OVERFLOW,
    "IOVEC_CHANGED": IOVEC_CHANGED,
    "LOOKUP_FAILED": LOOKUP_FAILED,
    "RESERVE_FAILED": RESERVE_FAILED,
    "OVERLAY_FAILED": OVERLAY_FAILED,
    "RELEASE_FAILED": RELEASE_FAILED,
    "HELD": HELD,
    "CLOSED": CLOSED,
    "EXPORTED": EXPORTED,
}

cdef enum:
    NO_SEGMENT = -1     # the failure is not one segment's
    MESSAGE_SIZE = 192


# ---- RAMBlocks and segments that come from Python

cdef struct block_table:
    const core_block *blocks
    size_t count
    size_t recent               # where the last look-up ended; the next one begins there, as QEMU's does


cdef int find_block(void *context, uintptr_t address, core_block *block) noexcept nogil:
    """core_calls.resolve for a block_table."""
    # SAFETY: _map() passes this function and its own table together; position stays below count.
    cdef block_table *table = <block_table *>context
    cdef size_t position = table.recent
    cdef size_t _i
    for _i in range(table.count):
        if (address >= table.blocks[position].host
                and address - table.blocks[position].host < table.blocks[position].length):
            table.recent = position
            block[0] = table.blocks[position]
            return 0
        position = position + 1 if position + 1 < table.count else 0
    return EFAULT


cdef bytearray pack_iovec(tuple segments):
    cdef bytearray storage = bytearray(len(segments) * sizeof(c_iovec))
    # SAFETY: storage holds one entry for each segment, and is neither resized nor seen by others here.
    cdef c_iovec *iov = <c_iovec *><char *>storage
    cdef Py_ssize_t i
    for i in range(len(segments)):
        base, length = segments[i]
        try:
            iov[i].iov_base = <void *><uintptr_t>PyNumber_Index(base)
            iov[i].iov_len = PyNumber_Index(length)
        except OverflowError:
            raise OverflowError(f"segment {i}: address and length must be between 0 and 2**64 - 1") from None
    return storage


cdef bytearray pack_blocks(tuple blocks):
    cdef bytearray storage = bytearray(len(blocks) * sizeof(core_block))
    # SAFETY: as in pack_iovec().
    cdef core_block *packed = <core_block *><char *>storage
    cdef Py_ssize_t i
    for i in range(len(blocks)):
        host, length, fd, file_offset = blocks[i]
        packed[i].host = PyNumber_Index(host)
        packed[i].length = PyNumber_Index(length)
        packed[i].fd = PyNumber_Index(fd)
        packed[i].file_offset = PyNumber_Index(file_offset)
        packed[i].id = i
    return storage


cdef class Placeholder:
    """One contiguous, read-only view of a dmabuf's segments, and the owner of that mapping.

    Empty, and so closed, until it is mapped; vfio_verify.core.map_dmabuf() makes and maps one.
    The mapping goes with close(), the end of a with block, or the object itself. A process forked
    later never unmaps it.
    """

    cdef char *address          # of the reservation; NULL: nothing is held
    cdef size_t size            # bytes asked for; the kernel rounds up to pages, mapping and unmapping
    cdef bint whole             # every segment is overlaid; otherwise these are the remains of a failed call
    cdef pid_t pid              # of the process that made the reservation, the only one to undo it
    cdef Py_ssize_t exports     # live buffer views
    cdef size_t page_size
    cdef int (*munmap)(void *, size_t) noexcept nogil   # partner of the mmap that made the reservation

    # The last failure, until the next call that can fail.
    cdef core_cause cause
    cdef int64_t segment        # position in the iovec, or NO_SEGMENT
    cdef int error              # errno of the step that failed, or 0
    cdef int release_error      # errno of unmapping the remains of the failed call, or 0
    cdef uint64_t a, b          # the numbers that its message names
    cdef char[MESSAGE_SIZE] message     # as describe() left it

    def __cinit__(self):
        self.page_size = <size_t>sysconf(_SC_PAGESIZE)
        self.segment = NO_SEGMENT

    def __dealloc__(self):
        # A live view holds a reference to this object, so there is none left here.
        if self.address != NULL:
            self.unmap()

    # ---- failures

    @cython.final
    cdef void succeed(self) noexcept nogil:
        self.cause = NO_FAILURE
        self.segment = NO_SEGMENT
        self.error = 0
        self.release_error = 0

    @cython.final
    cdef int fail(
        self, core_cause cause, int64_t segment, int error, uint64_t a, uint64_t b
    ) noexcept nogil:
        """Remember a failure; a and b are the numbers that its message names. Returns the cause."""
        self.cause = cause
        self.segment = segment
        self.error = error
        self.a = a
        self.b = b
        return cause

    @cython.final
    cdef const char *describe(self) noexcept nogil:
        """The message of the last failure, "" if there is none."""
        # SAFETY: snprintf() ends each string inside its room.
        cdef char *text = self.message
        cdef long long i = self.segment
        cdef unsigned long long a = self.a
        cdef unsigned long long b = self.b
        cdef int error = self.error
        cdef int again = self.release_error
        text[0] = 0
        if self.cause == NO_SEGMENTS:
            snprintf(text, MESSAGE_SIZE, "the iovec has no segments")
        elif self.cause == EMPTY_SEGMENT:
            snprintf(text, MESSAGE_SIZE, "segment %lld: its length is 0", i)
        elif self.cause == LENGTH_MISALIGNED:
            snprintf(text, MESSAGE_SIZE, "segment %lld: length %llu is not a multiple of the page size (%llu)", i, a, b)
        elif self.cause == LENGTH_OVERFLOW:
            snprintf(text, MESSAGE_SIZE, "segment %lld: length %llu after %llu bytes is more than a size can hold",
                     i, a, b)
        elif self.cause == SIZE_MISMATCH:
            snprintf(text, MESSAGE_SIZE, "the lengths add up to %llu bytes, the total size is %llu", a, b)
        elif self.cause == SIZE_OVERFLOW:
            snprintf(text, MESSAGE_SIZE, "total size %llu cannot be rounded up to the page size (%llu)", a, b)
        elif self.cause == NO_BLOCK:
            snprintf(text, MESSAGE_SIZE, "segment %lld: no RAMBlock holds address 0x%llx", i, a)
        elif self.cause == OTHER_BLOCK:
            snprintf(text, MESSAGE_SIZE, "segment %lld: address 0x%llx is in another RAMBlock than segment 0", i, a)
        elif self.cause == PAST_BLOCK:
            snprintf(text, MESSAGE_SIZE,
                     "segment %lld: length %llu runs past the RAMBlock, which ends after %llu bytes", i, a, b)
        elif self.cause == OFFSET_MISALIGNED:
            snprintf(text, MESSAGE_SIZE,
                     "segment %lld: file offset 0x%llx is not a multiple of the page size (%llu)", i, a, b)
        elif self.cause == OFFSET_OVERFLOW:
            snprintf(text, MESSAGE_SIZE,
                     "segment %lld: length %llu at file offset 0x%llx is more than an offset can hold", i, a, b)
        elif self.cause == LOOKUP_FAILED:
            snprintf(text, MESSAGE_SIZE, "segment %lld: looking up address 0x%llx failed (errno %d)", i, a, error)
        elif self.cause == RESERVE_FAILED:
            snprintf(text, MESSAGE_SIZE, "reserving %llu bytes failed (errno %d)", a, error)
        elif self.cause == IOVEC_CHANGED and again:
            snprintf(text, MESSAGE_SIZE, "the iovec changed while it was being mapped; "
                     "unmapping the reservation failed, too (errno %d)", again)
        elif self.cause == IOVEC_CHANGED:
            snprintf(text, MESSAGE_SIZE, "the iovec changed while it was being mapped")
        elif self.cause == OVERLAY_FAILED and again:
            snprintf(text, MESSAGE_SIZE,
                     "segment %lld: overlaying %llu bytes from file offset 0x%llx failed (errno %d); "
                     "unmapping the reservation failed, too (errno %d)", i, a, b, error, again)
        elif self.cause == OVERLAY_FAILED:
            snprintf(text, MESSAGE_SIZE,
                     "segment %lld: overlaying %llu bytes from file offset 0x%llx failed (errno %d)", i, a, b, error)
        elif self.cause == RELEASE_FAILED:
            snprintf(text, MESSAGE_SIZE, "unmapping %llu bytes failed (errno %d)", a, error)
        elif self.cause == HELD:
            snprintf(text, MESSAGE_SIZE, "the placeholder still holds a mapping")
        elif self.cause == CLOSED:
            snprintf(text, MESSAGE_SIZE, "the placeholder is closed")
        elif self.cause == EXPORTED:
            snprintf(text, MESSAGE_SIZE, "the placeholder has %llu live views", a)
        return text

    # ---- checks, all of them made before the first mapping

    @cython.final
    cdef int check_lengths(self, const c_iovec *iov, unsigned int iov_cnt, size_t total_size) noexcept nogil:
        """NOT_EMPTY, ALIGNED and SIZE_AGREES, which need no look-up."""
        cdef size_t done = 0
        cdef size_t length
        cdef unsigned int i
        if iov == NULL or iov_cnt == 0:
            return self.fail(NO_SEGMENTS, NO_SEGMENT, 0, 0, 0)
        for i in range(iov_cnt):
            # SAFETY: the caller vouches for iov_cnt readable entries.
            length = iov[i].iov_len
            if length == 0:
                return self.fail(EMPTY_SEGMENT, i, 0, 0, 0)
            # The last one is mapped whole: the kernel rounds it up, and as its file offset is aligned and its
            # end is inside the RAMBlock, so is the rest of its last page, or of the page the block ends in.
            if i < iov_cnt - 1 and length % self.page_size:
                return self.fail(LENGTH_MISALIGNED, i, 0, length, self.page_size)
            if length > <size_t>-1 - done:
                return self.fail(LENGTH_OVERFLOW, i, 0, length, done)
            done += length
        if done != total_size:
            return self.fail(SIZE_MISMATCH, NO_SEGMENT, 0, done, total_size)
        if total_size > <size_t>-1 - (self.page_size - 1):
            return self.fail(SIZE_OVERFLOW, NO_SEGMENT, 0, total_size, self.page_size)
        return 0

    @cython.final
    cdef int check_blocks(
        self, const core_calls *calls, const c_iovec *iov, unsigned int iov_cnt, core_block *block
    ) noexcept nogil:
        """SAME_BLOCK and WITHIN_BLOCK. *block becomes the one RAMBlock of all segments."""
        cdef core_block found
        cdef core_block *target = block
        cdef off_t file_offset
        cdef uintptr_t base
        cdef unsigned int i
        cdef int error
        for i in range(iov_cnt):
            # SAFETY: iov as in check_lengths(); target is the caller's block, then this frame's.
            base = <uintptr_t>iov[i].iov_base
            error = calls.resolve(calls.context, base, target)
            if error == EFAULT:
                return self.fail(NO_BLOCK, i, 0, base, 0)
            if error:
                return self.fail(LOOKUP_FAILED, i, error, base, 0)
            if target.id != block.id:
                return self.fail(OTHER_BLOCK, i, 0, base, 0)
            if self.locate(block, base, iov[i].iov_len, i, &file_offset):
                return self.cause
            target = &found
        return 0

    @cython.final
    cdef int locate(
        self, const core_block *block, uintptr_t base, size_t length, unsigned int i, off_t *file_offset
    ) noexcept nogil:
        """Where segment i lies in the file, if it lies wholly in the block and can be mapped from there."""
        cdef uint64_t offset
        # Differences only: an end address could wrap around.
        if base < block.host or base - block.host >= block.length:
            return self.fail(NO_BLOCK, i, 0, base, 0)
        offset = base - block.host
        if length > block.length - offset:
            return self.fail(PAST_BLOCK, i, 0, length, block.length - offset)
        if offset > <uint64_t>-1 - block.file_offset:
            return self.fail(OFFSET_OVERFLOW, i, 0, length, block.file_offset)
        offset += block.file_offset
        if offset % self.page_size:
            return self.fail(OFFSET_MISALIGNED, i, 0, offset, self.page_size)
        if offset > <uint64_t>INT64_MAX or length > <uint64_t>INT64_MAX - offset:
            return self.fail(OFFSET_OVERFLOW, i, 0, length, offset)
        file_offset[0] = <off_t>offset
        return 0

    # ---- the mapping

    @cython.final
    cdef int reserve(self, const core_calls *calls, size_t size) noexcept nogil:
        # PROT_NONE, so that a byte left uncovered faults. MAP_NORESERVE, since nothing is ever stored
        # here and a large BAR would otherwise be charged against memory.
        cdef int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE
        cdef void *address = calls.mmap(NULL, size, PROT_NONE, flags, -1, 0)
        if address == MAP_FAILED:
            return self.fail(RESERVE_FAILED, NO_SEGMENT, errno, size, 0)
        self.address = <char *>address
        self.size = size
        self.munmap = calls.munmap
        self.pid = getpid()
        return 0

    @cython.final
    cdef int overlay(
        self, const core_calls *calls, size_t offset, size_t length, int fd, off_t file_offset, unsigned int i
    ) noexcept nogil:
        """Replace part of the reservation by segment i; the only place with MAP_FIXED."""
        cdef int flags = MAP_SHARED | MAP_FIXED
        cdef void *address
        if length == 0 or offset > self.size or length > self.size - offset:
            return self.fail(IOVEC_CHANGED, i, 0, 0, 0)
        # SAFETY: this object reserved [address, address + size) and still holds it, and the line above
        # keeps offset and length inside. The kernel refuses a misaligned address and rounds a length
        # up to the page with which the reservation ends, too.
        address = calls.mmap(self.address + offset, length, PROT_READ, flags, fd, file_offset)
        if address == MAP_FAILED:
            return self.fail(OVERLAY_FAILED, i, errno, length, <uint64_t>file_offset)
        return 0

    @cython.final
    cdef int overlay_all(
        self, const core_calls *calls, const c_iovec *iov, unsigned int iov_cnt, const core_block *block
    ) noexcept nogil:
        cdef size_t done = 0
        cdef size_t length
        cdef off_t file_offset
        cdef unsigned int i
        for i in range(iov_cnt):
            # SAFETY: iov as in check_lengths(). The length is read once: somebody may write to the iovec
            # meanwhile, and must not get past locate() or overlay().
            length = iov[i].iov_len
            if self.locate(block, <uintptr_t>iov[i].iov_base, length, i, &file_offset):
                return self.fail(IOVEC_CHANGED, i, 0, 0, 0)
            if self.overlay(calls, done, length, block.fd, file_offset, i):
                return self.cause
            done += length
        if done != self.size:
            return self.fail(IOVEC_CHANGED, NO_SEGMENT, 0, 0, 0)
        self.whole = True
        return 0

    @cython.final
    cdef void forget(self) noexcept nogil:
        self.address = NULL
        self.size = 0
        self.whole = False

    @cython.final
    cdef int unmap(self) noexcept nogil:
        """Give the reservation back. Returns 0, or an errno, and then still holds it."""
        # SAFETY: address and size are those of a reservation of this object, which forgets them as soon
        # as they are unmapped. A child that shares its parent's memory must leave it alone.
        if self.pid == getpid():
            # munmap fails for want of memory or of map entries, which may pass: once more, then keep it.
            if self.munmap(self.address, self.size) and self.munmap(self.address, self.size):
                return errno
        self.forget()
        return 0

    # ---- the whole of a call

    @cython.final
    cdef int map(
        self, const core_calls *calls, const c_iovec *iov, unsigned int iov_cnt, size_t total_size
    ) noexcept nogil:
        cdef core_block block
        self.succeed()
        if self.address != NULL:
            return self.fail(HELD, NO_SEGMENT, 0, 0, 0)
        if (self.check_lengths(iov, iov_cnt, total_size)
                or self.check_blocks(calls, iov, iov_cnt, &block)
                or self.reserve(calls, total_size)):
            return self.cause
        if self.overlay_all(calls, iov, iov_cnt, &block):
            # A driver that refuses late has left a hole. What another thread maps there before the next
            # line goes with the rest: the kernel does not tell the one from the other.
            self.release_error = self.unmap()
            return self.cause
        return 0

    @cython.final
    cdef int release(self) noexcept nogil:
        cdef int error
        self.succeed()
        if self.address == NULL:
            return 0
        if self.exports:
            return self.fail(EXPORTED, NO_SEGMENT, 0, <uint64_t>self.exports, 0)
        error = self.unmap()
        if error:
            return self.fail(RELEASE_FAILED, NO_SEGMENT, error, self.size, 0)
        return 0

    @cython.final
    cdef void *give_away(self) noexcept nogil:
        cdef void *address = self.address
        if self.exports:
            return NULL
        self.forget()
        return address

    # ---- the Python face

    def _map(self, iovec, total_size, blocks):
        """Map, or raise what _error() makes of the failure. blocks: (host, length, fd, file offset) each.

        An OverflowError or TypeError tells of numbers that are no address, size, descriptor or offset.
        """
        cdef size_t total
        cdef block_table table
        cdef core_calls calls
        cdef int cause
        segments = tuple(iovec)
        block_tuples = tuple(blocks)
        if len(segments) > UINT_MAX:
            raise OverflowError("an iovec has at most 2**32 - 1 segments")
        try:
            total = PyNumber_Index(total_size)
        except OverflowError:
            raise OverflowError("total_size must be between 0 and 2**64 - 1") from None
        iovec_storage = pack_iovec(segments)
        block_storage = pack_blocks(block_tuples)
        # SAFETY: both stores stay referenced, and unresized, until this method returns; they hold as many
        # entries as the tuples they were packed from.
        table.blocks = <const core_block *><char *>block_storage
        table.count = len(block_tuples)
        table.recent = 0
        calls.mmap = mmap
        calls.munmap = munmap
        calls.resolve = find_block
        calls.context = &table
        calls.page_size = 0
        cdef const c_iovec *iov = <const c_iovec *><char *>iovec_storage
        cdef unsigned int count = <unsigned int>len(segments)
        with nogil:
            cause = self.map(&calls, iov, count, total)
        if cause:
            raise self._error(self.cause, self.segment_or_none(), self.error, self.describe().decode())

    def _error(self, cause, segment, error, message):
        """The exception for a failure; vfio_verify.core overrides it with its own classes."""
        return RuntimeError(message)

    cdef segment_or_none(self):
        return None if self.segment == NO_SEGMENT else self.segment

    cdef int check_open(self) except -1:
        if not self.whole:
            self.fail(CLOSED, NO_SEGMENT, 0, 0, 0)
            raise self._error(self.cause, None, 0, self.describe().decode())
        return 0

    cdef int check_no_views(self) except -1:
        if self.exports:
            self.fail(EXPORTED, NO_SEGMENT, 0, self.exports, 0)
            raise self._error(self.cause, None, 0, self.describe().decode())
        return 0

    @property
    def closed(self):
        """Whether nothing is held: never mapped, closed, or detached."""
        return self.address == NULL

    @property
    def address(self):
        """Address of the first byte. StateError once closed."""
        self.check_open()
        return <uintptr_t>self.address

    @property
    def size(self):
        """Size in bytes: the total size asked for, not rounded up to pages. StateError once closed."""
        self.check_open()
        return self.size

    def close(self):
        """Unmap. Does nothing once closed; in a forked child it only forgets the mapping.

        ViewError: a buffer view is alive. MappingError: munmap(2) failed, and the mapping is still held.
        """
        # With the GIL held, lest another thread takes a view of, or closes, what is being unmapped.
        if self.release():
            raise self._error(self.cause, self.segment_or_none(), self.error, self.describe().decode())

    def detach(self):
        """Hand the mapping to the caller, who is to munmap(2) `size` bytes, and return its address.

        ViewError: a buffer view is alive. StateError: closed.
        """
        self.check_open()
        self.check_no_views()
        return <uintptr_t>self.give_away()

    def __enter__(self):
        self.check_open()
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.check_open()
        # SAFETY: the view holds a reference to this object, and neither close() nor detach() lets go of the
        # mapping while exports is not 0.
        PyBuffer_FillInfo(buffer, self, self.address, <Py_ssize_t>self.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1

    def __repr__(self):
        if self.address == NULL:
            return "<Placeholder, closed>"
        return f"<Placeholder of {self.size} bytes at {<uintptr_t>self.address:#x}>"


# ---- the C face, in __pyx_capi__
#
# A capsule's name is the signature: PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)).
# `self` must be a Placeholder, which nothing here checks: without the GIL there is no exception to raise.
# The caller keeps it referenced, and calls these from one thread at a time. calls.munmap must outlive
# what was mapped; the rest of the table is not kept.

cdef api int core_map(
    object self, const core_calls *calls, const c_iovec *iov, unsigned int iov_cnt, size_t total_size
) noexcept nogil:
    """Map the segments into one reservation. Returns 0, or the Cause, and then holds nothing.

    Only where munmap failed as well does it still hold the remains; core_message() says so.
    """
    (<Placeholder>self).page_size = calls.page_size if calls.page_size else <size_t>sysconf(_SC_PAGESIZE)
    return (<Placeholder>self).map(calls, iov, iov_cnt, total_size)


cdef api int core_release(object self) noexcept nogil:
    """Unmap what is held, if anything. Returns 0, or the Cause, and then still holds it."""
    return (<Placeholder>self).release()


cdef api void *core_detach(object self) noexcept nogil:
    """Hand what is held to the caller, remains of a failed call included.

    NULL: there is nothing, or a view of it is alive. core_message() stays as it was.
    """
    return (<Placeholder>self).give_away()


cdef api const char *core_message(object self) noexcept nogil:
    """Why the last core_map() or core_release() failed, "" if it did not. Lives as long as the object."""
    return (<Placeholder>self).describe()
