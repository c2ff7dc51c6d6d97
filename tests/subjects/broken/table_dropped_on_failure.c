/* violates: SURVIVES | drops its table where the reservation fails, and the next call uses it without a look */
/* may violate: REPEATABLE */

#include "helper.h"

static struct Counters {
    unsigned long calls;
} counters, *table = &counters;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    __atomic_add_fetch(&table->calls, 1, __ATOMIC_RELAXED);
    map = reserve(total_size, errp);
    if (!map) {
        table = NULL;
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
