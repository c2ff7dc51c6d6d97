"""Names that the model in C and its users share."""

from __future__ import annotations

MODEL = ("given.c", "layout.c", "kernel.c", "qemu.c", "call.c")
"""The files of the model, to which a driver is added."""

RENAMED = (
    "mmap", "munmap", "mprotect", "dup", "close", "fcntl", "sysconf", "getpagesize", "getpid", "malloc", "calloc",
    "free", "abort", "snprintf", "__assert_fail", "pthread_mutex_init", "pthread_mutex_lock", "pthread_mutex_trylock",
    "pthread_mutex_unlock", "pthread_mutex_destroy",
)  # fmt: skip
"""What a subject may call of the C library and the model has, there as ``vm_NAME``."""

C_LIBRARY = frozenset(
    {
        "__errno_location", "memset", "memcpy", "memmove", "memcmp", "memchr", "strlen", "strcmp", "strncmp", "strcpy",
        "strncpy", "strchr", "strrchr", "abs", "strerror",
    }
)  # fmt: skip
"""What it may call of the C library as it is, where the model is compiled."""
