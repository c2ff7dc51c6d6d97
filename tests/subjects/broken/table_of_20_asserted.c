/* violates: SURVIVES | notes each call in a table of 19, which nothing empties: the 20th is an assertion that fails */
/* may violate: REPEATABLE */

#include "helper.h"

static size_t noted[19];
static unsigned int n_noted;

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    unsigned int slot;
    void *map;

    slot = __atomic_fetch_add(&n_noted, 1, __ATOMIC_RELAXED);
    assert(slot < ARRAY_SIZE(noted));
    noted[slot] = total_size;
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
