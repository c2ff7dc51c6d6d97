/*
 * The loops that pairs.py compares: a placeholder by the core, and by bare system calls.
 *
 * Both map the same layout: segments of one page each, every second page of a file from its start, so that the
 * kernel cannot merge neighbours. Times are nanoseconds of this thread's own processor time: what other
 * processes do meanwhile is not in them.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core_calls.h"

/* Where the block is said to be mapped: the core calculates with the addresses, and reads nothing there. */
#define HOST ((uintptr_t)1 << 46)

typedef int map_function(void *placeholder, const struct core_calls *calls, const struct iovec *iov,
                         unsigned int iov_cnt, size_t total_size);
typedef int release_function(void *placeholder);

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* core_calls.resolve for a single block, which is the context. */
static int one_block(void *context, uintptr_t address, struct core_block *block)
{
    const struct core_block *only = context;

    if (address - only->host >= only->length) {
        return EFAULT;
    }
    *block = *only;
    return 0;
}

/* The time in which the core maps and releases the layout `rounds` times, or the negative cause of its failure. */
int64_t core_time(map_function *map, release_function *release, void *placeholder, int fd, unsigned int segments,
                  unsigned int rounds)
{
    size_t page = sysconf(_SC_PAGESIZE);
    struct core_block block = {.host = HOST, .length = 2 * page * segments, .fd = fd};
    struct core_calls calls = {
        .mmap = mmap, .munmap = munmap, .resolve = one_block, .context = &block, .page_size = page,
    };
    struct iovec *iov = malloc(segments * sizeof(*iov));
    int64_t start, end;
    int cause = 0;

    if (!iov) {
        abort();
    }
    for (unsigned int i = 0; i < segments; i++) {
        iov[i] = (struct iovec){.iov_base = (void *)(HOST + 2 * i * page), .iov_len = page};
    }
    start = now();
    for (unsigned int round = 0; round < rounds && !cause; round++) {
        cause = map(placeholder, &calls, iov, segments, page * segments);
        if (!cause) {
            cause = release(placeholder);
        }
    }
    end = now();
    free(iov);
    return cause ? -cause : end - start;
}

/* A call that was seen: six words. `step` is that of enum vv_step; mmap at no fixed address has the one that it got. */
struct seen_call {
    uint64_t step, address, length, protection, flags, offset;
};
enum { SEEN_MMAP, SEEN_MUNMAP, SEEN_MPROTECT };

/* The time in which calls are made again, each file's on `fd`; or a negative errno. Where they once got a reservation,
 * another one is got now: what follows lies as far from it as it did. */
int64_t calls_time(const struct seen_call *calls, size_t n, int fd)
{
    int64_t start = now();
    uint64_t moved = 0;

    /* SAFETY: what is mapped over, protected and unmapped lies in a reservation, as it did when it was seen. */
    for (size_t i = 0; i < n; i++) {
        const struct seen_call *call = &calls[i];
        void *address = (void *)(call->address + moved);
        bool anonymous = call->flags & MAP_ANONYMOUS;

        if (call->step == SEEN_MMAP && !(call->flags & MAP_FIXED)) {
            void *got = mmap(NULL, call->length, call->protection, call->flags, anonymous ? -1 : fd, call->offset);

            if (got == MAP_FAILED) {
                return -errno;
            }
            moved = (uint64_t)got - call->address;
        } else if (call->step == SEEN_MMAP
                   && mmap(address, call->length, call->protection, call->flags, anonymous ? -1 : fd, call->offset)
                      == MAP_FAILED) {
            return -errno;
        } else if (call->step == SEEN_MUNMAP && munmap(address, call->length)) {
            return -errno;
        } else if (call->step == SEEN_MPROTECT && mprotect(address, call->length, call->protection)) {
            return -errno;
        }
    }
    return now() - start;
}

/* Returns 0, or -1 with errno. */
static int bare_round(int fd, size_t segments, size_t page, bool touch)
{
    char *base = mmap(NULL, segments * page, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int failed = 0;

    if (base == MAP_FAILED) {
        return -1;
    }
    /* SAFETY: each overlay and each read lies inside the reservation, which ends with this function. */
    for (size_t i = 0; i < segments && !failed; i++) {
        if (mmap(base + i * page, page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 2 * i * page) == MAP_FAILED) {
            failed = -1;
        }
    }
    for (size_t i = 0; touch && !failed && i < segments; i++) {
        (void)*(volatile char *)(base + i * page);
    }
    return munmap(base, segments * page) || failed ? -1 : 0;
}

/* The same by system calls alone; with `touch`, a byte of each page is read too. Or a negative errno. */
int64_t bare_time(int fd, unsigned int segments, unsigned int rounds, bool touch)
{
    size_t page = sysconf(_SC_PAGESIZE);
    int64_t start = now();

    for (unsigned int round = 0; round < rounds; round++) {
        if (bare_round(fd, segments, page, touch)) {
            return -errno;
        }
    }
    return now() - start;
}
