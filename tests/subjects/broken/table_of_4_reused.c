/* violates: REPEATABLE | keeps its mappings in a table of four: the fifth call unmaps the oldest, which the caller may still have */
/* may violate: CONFINED, CONTIGUOUS, UNMAP_ON_ERROR */

#include "helper.h"

static struct {
    void *map;
    size_t size;
} table[4];
static unsigned int next;

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    unsigned int slot = next % G_N_ELEMENTS(table);
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    if (table[slot].map) {
        munmap(table[slot].map, table[slot].size);
    }
    table[slot].map = map;
    table[slot].size = total;
    next++;
    return map;
}
