/* violates: UNMAP_ON_ERROR | a failed overlay returns without unmapping anything */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map || !overlay_all(map, iov, iov_cnt, &source, errp)) {
        return false;
    }
    *addr = map;
    return true;
}
