/* violates: SURVIVES, UNMAP_ON_ERROR | ends in a crash when all is mapped, and unmaps nothing when an overlay fails */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    unsigned long *volatile mapped = NULL;
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
        return false;
    }
    *mapped += total_size;
    *addr = map;
    return true;
}
