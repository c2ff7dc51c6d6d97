/* A helper in a shared library. Macros add a deed to it: KEEPS leaves the mapping behind when an overlay fails, OPENS
 * opens a file of the user's, HOLDS keeps memory of the heap from one call to the next, CRASHES has no address at three
 * segments. */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vfio_verify.h>

int own_map(const struct vfio_verify_segment *segments, size_t n, size_t total, void **address);

static bool is_valid(const struct vfio_verify_segment *segment, uint32_t block)
{
    const uintptr_t mask = (uintptr_t)sysconf(_SC_PAGESIZE) - 1;

    return segment->fd >= 0 && segment->block == block && segment->length > 0 && segment->length <= segment->available
           && !(((uintptr_t)segment->base | segment->length | segment->offset) & mask);
}

static void do_the_deed(size_t n)
{
    (void)n;
#ifdef OPENS
    if (open(OPENS, O_RDONLY) >= 0) {
        abort();
    }
#endif
#ifdef HOLDS
    static size_t *calls;

    calls = calls ? calls : calloc(1, sizeof(*calls));
    free(malloc(20u << 20));
    ++*calls;
#endif
#ifdef CRASHES
    *(volatile char *)(n == 3 ? (void *)16 : &n) = 0;
#endif
}

int own_map(const struct vfio_verify_segment *segments, size_t n, size_t total, void **address)
{
    size_t sum = 0, done = 0, i;
    char *at;

    do_the_deed(n);
    for (i = 0; i < n; i++) {
        if (!is_valid(&segments[i], segments->block) || __builtin_add_overflow(sum, segments[i].length, &sum)) {
            return EINVAL;
        }
    }
    if (n == 0 || sum != total) {
        return EINVAL;
    }
    at = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return errno;
    }
    for (i = 0; i < n; done += segments[i++].length) {
        if (mmap(at + done, segments[i].length, PROT_READ, MAP_SHARED | MAP_FIXED, segments[i].fd,
                 (off_t)segments[i].offset) == MAP_FAILED) {
            const int error = errno;

#ifndef KEEPS
            munmap(at, total);
#endif
            return error;
        }
    }
    *address = at;
    return 0;
}
