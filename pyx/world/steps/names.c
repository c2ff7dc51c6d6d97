/*
 * The names that a subject is linked to: with --wrap, its mmap() is __wrap_mmap() below. The C library's own is not
 * touched.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/base.h"
#include "steps/steps.h"

VV_EXPORT void *__wrap_mmap(void *a, size_t n, int p, int f, int fd, off_t o) { return vv_mmap(a, n, p, f, fd, o); }
VV_EXPORT void *__wrap_mmap64(void *a, size_t n, int p, int f, int fd, off_t o) { return vv_mmap(a, n, p, f, fd, o); }
VV_EXPORT int __wrap_munmap(void *a, size_t n) { return vv_munmap(a, n); }
VV_EXPORT int __wrap_mprotect(void *a, size_t n, int prot) { return vv_mprotect(a, n, prot); }
VV_EXPORT int __wrap_dup(int fd) { return vv_dup(fd); }
VV_EXPORT int __wrap_close(int fd) { return vv_close(fd); }
VV_EXPORT int __wrap_madvise(void *a, size_t n, int advice) { return vv_madvise(a, n, advice); }
VV_EXPORT int __wrap_close_range(unsigned int a, unsigned int b, int flags) { return vv_close_range(a, b, flags); }
VV_EXPORT void __wrap_closefrom(int first) { vv_close_range(first < 0 ? 0 : (unsigned int)first, ~0u, 0); }
VV_EXPORT int __wrap_fclose(FILE *stream) { return vv_fclose(stream); }

VV_EXPORT int __wrap_dup2(int fd, int target)
{
    if (!vv_calls.active) {
        return dup2(fd, target);
    }
    return fd == target ? fd : vv_dup_as(SYS_dup3, fd, target, 0);     /* arm64 has no dup2 */
}

VV_EXPORT int __wrap_dup3(int fd, int target, int flags)
{
    return vv_calls.active ? vv_dup_as(SYS_dup3, fd, target, flags) : dup3(fd, target, flags);
}

VV_EXPORT void *__wrap_mremap(void *addr, size_t old_length, size_t new_length, int flags, ...)
{
    va_list rest;
    void *target = NULL;

    if (flags & MREMAP_FIXED) {
        va_start(rest, flags);
        target = va_arg(rest, void *);
        va_end(rest);
    }
    return vv_mremap(addr, old_length, new_length, flags, target);
}

/* The mode, where the flags say that there is one. */
#define OPEN(directory)                                                     \
    va_list rest;                                                           \
    mode_t mode = 0;                                                        \
                                                                            \
    va_start(rest, flags);                                                  \
    if (flags & (O_CREAT | O_TMPFILE)) {                                    \
        mode = (mode_t)va_arg(rest, int);                                   \
    }                                                                       \
    va_end(rest);                                                           \
    return vv_openat(directory, path, flags, mode)

VV_EXPORT int __wrap_open(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
VV_EXPORT int __wrap_open64(const char *path, int flags, ...) { OPEN(AT_FDCWD); }
VV_EXPORT int __wrap_openat(int directory, const char *path, int flags, ...) { OPEN(directory); }

VV_EXPORT int __wrap_fcntl(int fd, int command, ...)
{
    va_list rest;
    long value;

    va_start(rest, command);
    value = va_arg(rest, long);
    va_end(rest);
    return vv_fcntl(fd, command, value);
}

/* The subject is told of its own pages. */
VV_EXPORT long __wrap_sysconf(int name) { return name == _SC_PAGESIZE ? (long)vv_host_page : sysconf(name); }
VV_EXPORT int __wrap_getpagesize(void) { return (int)vv_host_page; }

/* The heap of the process must not grow between two snapshots, and System V segments are not ours to undo. */
VV_EXPORT int __wrap_brk(void *end) { (void)end; errno = ENOMEM; return -1; }
VV_EXPORT void *__wrap_sbrk(intptr_t by) { (void)by; errno = ENOMEM; return (void *)-1; }
VV_EXPORT void *__wrap_shmat(int id, const void *a, int f)
{
    (void)id, (void)a, (void)f;
    errno = ENOSYS;
    return (void *)-1;
}

VV_EXPORT int __wrap_shmdt(const void *addr) { (void)addr; errno = ENOSYS; return -1; }

VV_EXPORT _Noreturn void __wrap_exit(int status) { vv_die("called exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap__exit(int status) { vv_die("called _exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap__Exit(int status) { vv_die("called _Exit(%d)", status); }
VV_EXPORT _Noreturn void __wrap_abort(void) { vv_die("called abort()"); }

VV_EXPORT _Noreturn void __wrap___assert_fail(const char *what, const char *file, unsigned int line,
                                              const char *function)
{
    vv_die_of(VV_DEATH_ASSERTION, "%s:%u: %s: assertion `%s' failed", file, line, function, what);
}

/* syscall(2) reaches the same interposers; what they do not know is made as it is. */
VV_EXPORT long __wrap_syscall(long number, ...)
{
    va_list rest;
    long a[6];
    int i;

    va_start(rest, number);
    for (i = 0; i < 6; i++) {
        a[i] = va_arg(rest, long);
    }
    va_end(rest);
    if (!vv_calls.active) {
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    switch (number) {
    case SYS_mmap:
        return (long)vv_mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
    case SYS_munmap:
        return vv_munmap((void *)a[0], (size_t)a[1]);
    case SYS_mprotect:
        return vv_mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
    case SYS_madvise:
        return vv_madvise((void *)a[0], (size_t)a[1], (int)a[2]);
    case SYS_mremap:
        return (long)vv_mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]);
    case SYS_dup:
        return vv_dup((int)a[0]);
    case SYS_dup3:
        return __wrap_dup3((int)a[0], (int)a[1], (int)a[2]);
    case SYS_close:
        return vv_close((int)a[0]);
    case SYS_close_range:
        return vv_close_range((unsigned int)a[0], (unsigned int)a[1], (int)a[2]);
    case SYS_exit:
    case SYS_exit_group:
        vv_die("called exit(%ld) by syscall()", a[0]);
    case SYS_brk:
        errno = ENOMEM;
        return -1;
    default:
        return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
}
