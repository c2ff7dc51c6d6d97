/*
 * System calls that no interposer sees, memory and locks of the world's own.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline void *vv_raw_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);
}

static inline int vv_raw_munmap(void *addr, size_t length)
{
    return (int)syscall(SYS_munmap, addr, length);
}

/* Memory of the world's own, which stays; NULL if there is none. */
static inline void *vv_room(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static inline void vv_spin_lock(char *lock)
{
    while (__atomic_test_and_set(lock, __ATOMIC_ACQUIRE)) {
        sched_yield();
    }
}

static inline void vv_spin_unlock(char *lock)
{
    __atomic_clear(lock, __ATOMIC_RELEASE);
}
