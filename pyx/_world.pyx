"""The world as Python sees it: serve requests for the core in a process of one's own, or run one here.

The work is in pyx/world/; this module only passes on what it is given.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t


ctypedef int (*map_function)(void *, const void *, const void *, unsigned int, size_t) noexcept nogil
ctypedef void *(*detach_function)(void *) noexcept nogil
ctypedef const char *(*message_function)(void *) noexcept nogil


cdef extern from "base/base.h" nogil:
    ctypedef struct progress_page "struct vv_progress":
        uint64_t finished
        uint64_t changes
    progress_page *progress "vv_progress"


cdef extern from "confine/confine.h" nogil:
    int vv_confine_compiler(uint64_t parts, const char *programs, const char *readable, const char *writable)


cdef extern from "confine/rules.h" nogil:
    long vv_landlock_version()


cdef extern from "run/run.h" nogil:
    enum:
        VV_CORE_THREADS
    struct vv_core:
        map_function map
        detach_function detach
        message_function message
        void *placeholders[VV_CORE_THREADS]
    int vv_start()
    void vv_use_core(const vv_core *functions)


cdef extern from "request.h" nogil:
    int64_t vv_run_request(const uint64_t *request, uint64_t request_bytes, uint8_t *reply, uint64_t capacity)


cdef extern from "main.h" nogil:
    int vv_main(int argc, char **argv)


cdef object _placeholders = None    # they live as long as the module: the world keeps their addresses


def use_core() -> None:
    """Make the core the subject of this process."""
    global _placeholders
    from vfio_verify import _core

    cdef vv_core functions
    capsules = _core.__pyx_capi__
    _placeholders = [_core.Placeholder() for _ in range(VV_CORE_THREADS)]
    functions.map = <map_function>_pointer(capsules["core_map"])
    functions.detach = <detach_function>_pointer(capsules["core_detach"])
    functions.message = <message_function>_pointer(capsules["core_message"])
    for number, placeholder in enumerate(_placeholders):
        functions.placeholders[<int>number] = <void *>placeholder
    vv_use_core(&functions)


cdef void *_pointer(object capsule) except NULL:
    return PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


def landlock_version() -> int:
    """Landlock's version on this machine; 0 where it is missing."""
    return max(0, vv_landlock_version())


def confine_compiler(uint64_t parts, programs: list[bytes], readable: list[bytes], bytes writable) -> None:
    """Confine this thread, and what it starts, for good: to programs and files that it may read, and one directory to
    write in.

    Raises OSError.
    """
    cdef bytes listed = b"".join(path + b"\0" for path in programs)
    cdef bytes others = b"".join(path + b"\0" for path in readable)
    if vv_confine_compiler(parts, listed, others, writable) < 0:
        raise OSError(errno, "the compiler cannot be confined")


cdef enum:
    MAX_ARGUMENTS = 128


def serve(arguments: list[bytes]) -> int:
    """Fork workers for the core until the owner is gone. Returns an exit status. The arguments are those of
    pyx/world/main.h, with the program's name first."""
    cdef char *words[MAX_ARGUMENTS]
    cdef int result, count = len(arguments), number
    if count > MAX_ARGUMENTS:
        raise ValueError(f"more than {MAX_ARGUMENTS} arguments")
    for number in range(count):
        words[number] = <bytes>arguments[number]
    use_core()
    with nogil:
        # SAFETY: the list keeps the words alive, and none is written to.
        result = vv_main(count, words)
    return result


def run(bytes request, uint64_t reply_capacity) -> tuple[bytes, int, int]:
    """Run a request in this process, on the subject set by `use_core`: for trusted subjects only.

    Returns the reply, the number of finished runs, and how many of this process's mappings changed meanwhile.
    """
    cdef bytearray reply = bytearray(reply_capacity)
    cdef const uint8_t *words = request
    cdef uint8_t *room = reply
    cdef uint64_t size = len(request)
    cdef int64_t written
    if _placeholders is None:
        raise RuntimeError("no subject is set; call use_core() first")
    with nogil:
        # SAFETY: bytes objects are aligned for 64-bit words; the world reads at most `size` bytes.
        written = -1 if vv_start() < 0 else vv_run_request(<const uint64_t *>words, size, room, reply_capacity)
    if written < 0:
        raise OSError(errno, "the request cannot be run")
    return bytes(reply[:written]), progress.finished, progress.changes
