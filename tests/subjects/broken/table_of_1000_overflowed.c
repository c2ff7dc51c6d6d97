/* violates: SURVIVES | only after 1,000 failed overlays, each noted in a table: the next one overwrites the pointer behind it */
/* may violate: REPEATABLE */

#include "helper.h"

static unsigned long failures;
static struct Log {
    uintptr_t lengths[1000];
    unsigned long *failures;
} log_of_failures = { .failures = &failures };

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    uintptr_t *volatile lengths = log_of_failures.lengths;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        lengths[__atomic_fetch_add(log_of_failures.failures, 1, __ATOMIC_RELAXED)] = iov_cnt;
        return false;
    }
    *addr = map;
    return true;
}
