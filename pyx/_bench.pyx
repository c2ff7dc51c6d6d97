# cython: auto_pickle=False, cdivision=True
"""The loops that vfio_verify/cli/bench.py compares: a placeholder by the core, and by bare system calls.

Both map the same layout: segments of one page each, every second page of a file from its start, so that the
kernel cannot merge neighbours. Times are nanoseconds of this thread's own processor time: what other
processes do meanwhile is not in them.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.errno cimport EFAULT, errno
from libc.stdint cimport int64_t, uint64_t, uintptr_t
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
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec
from posix.types cimport off_t
from posix.unistd cimport _SC_PAGESIZE, sysconf

import os

from vfio_verify import _core


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


ctypedef int (*map_function)(void *, const core_calls *, const c_iovec *, unsigned int, size_t) noexcept nogil
ctypedef int (*release_function)(void *) noexcept nogil

cdef enum:
    RESERVATION = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE    # as the core's
    OVERLAY = MAP_SHARED | MAP_FIXED

# Where the block is said to be mapped: the core calculates with the addresses, and reads nothing there.
cdef uintptr_t HOST = <uintptr_t>1 << 46


cdef int64_t now() noexcept nogil:
    cdef timespec time
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return <int64_t>time.tv_sec * 1000000000 + time.tv_nsec


cdef int one_block(void *context, uintptr_t address, core_block *block) noexcept nogil:
    """core_calls.resolve for a single block, which is the context."""
    # SAFETY: core_time() passes this function and a core_block of its own together.
    cdef const core_block *only = <const core_block *>context
    if address - only.host >= only.length:
        return EFAULT
    block[0] = only[0]
    return 0


cdef void *pointer(str name) except NULL:
    capsule = _core.__pyx_capi__[name]
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


def core_time(int fd, unsigned int segments, unsigned int rounds) -> int:
    """The time in which the core maps and releases the layout `rounds` times. RuntimeError: it failed."""
    cdef size_t page = <size_t>sysconf(_SC_PAGESIZE)
    cdef map_function map_it = <map_function>pointer("core_map")
    cdef release_function release = <release_function>pointer("core_release")
    cdef bytearray storage = bytearray(segments * sizeof(c_iovec))
    # SAFETY: storage holds one entry for each segment, and lives, unresized, until this function returns.
    cdef c_iovec *iov = <c_iovec *><char *>storage
    cdef core_block block
    cdef core_calls calls
    cdef unsigned int i
    cdef unsigned int _round
    cdef int cause = 0
    cdef int64_t start
    cdef int64_t end
    for i in range(segments):
        iov[i].iov_base = <void *>(HOST + 2 * i * page)
        iov[i].iov_len = page
    block.host, block.length, block.fd, block.file_offset, block.id = HOST, 2 * page * segments, fd, 0, 0
    calls.mmap, calls.munmap, calls.resolve, calls.context = mmap, munmap, one_block, &block
    calls.page_size = page
    placeholder = _core.Placeholder()
    # SAFETY: the placeholder is referenced by this frame, and used by this thread alone.
    cdef void *raw = <void *>placeholder
    with nogil:
        start = now()
        for _round in range(rounds):
            cause = map_it(raw, &calls, iov, segments, page * segments) or release(raw)
            if cause:
                break
        end = now()
    if cause:
        raise RuntimeError(f"the core fails to map {segments} segments: cause {cause}")
    return end - start


cdef int bare_round(int fd, size_t segments, size_t page, bint touch) noexcept nogil:
    """Returns 0, or -1 with errno."""
    cdef char *base = <char *>mmap(NULL, segments * page, PROT_NONE, RESERVATION, -1, 0)
    cdef size_t i
    cdef int failed = 0
    cdef volatile char _seen
    if <void *>base == MAP_FAILED:
        return -1
    # SAFETY: each overlay and each read lies inside the reservation, which ends with this function.
    for i in range(segments):
        if mmap(base + i * page, page, PROT_READ, OVERLAY, fd, <off_t>(2 * i * page)) == MAP_FAILED:
            failed = -1
            break
    if touch and not failed:
        for i in range(segments):
            _seen = (<volatile char *>base)[i * page]
    return munmap(base, segments * page) or failed


def bare_time(int fd, unsigned int segments, unsigned int rounds, bint touch) -> int:
    """The same by system calls alone; with `touch`, a byte of each page is read too. OSError: one failed."""
    cdef size_t page = <size_t>sysconf(_SC_PAGESIZE)
    cdef int failed = 0
    cdef unsigned int _round
    cdef int64_t start
    cdef int64_t end
    with nogil:
        start = now()
        for _round in range(rounds):
            failed = bare_round(fd, segments, page, touch)
            if failed:
                break
        end = now()
    if failed:
        raise OSError(errno, os.strerror(errno))
    return end - start
