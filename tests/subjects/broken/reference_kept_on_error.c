/* violates: NO_LEAK | holds a reference to the memory region while it maps, and keeps it when an overlay fails */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    MemoryRegion *mr;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    mr = source.block->mr;
    memory_region_ref(mr);
    map = reserve(total, errp);
    if (!map) {
        memory_region_unref(mr);
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    memory_region_unref(mr);
    return map;
}
