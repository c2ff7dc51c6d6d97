/*
 * What the parts of threads/ share.
 *
 * SPDX-License-Identifier: MIT
 */
#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "threads/crew.h"

static struct vv_thread_log unwatched;
struct vv_crew vv_crew = {.log = &unwatched};

void vv_futex_wait(int *word, int value, u64 ns)
{
    const struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &timeout, NULL, 0);
}

void vv_futex_wake(int *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static u64 mix(u64 x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

u64 vv_below(u64 *state, u64 n)
{
    *state += 0x9e3779b97f4a7c15ull;
    return n ? mix(*state) % n : 0;
}
