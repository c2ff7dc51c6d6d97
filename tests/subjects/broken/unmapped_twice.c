/* violates: CONFINED | unmaps at the failed overlay and again on the way out, when another thread may own the range */

#include "helper.h"

static bool overlay_or_unmap(void *map, size_t size, const struct iovec *iov,
                             unsigned int iov_cnt, const DmabufSource *source,
                             Error **errp)
{
    if (!overlay_all(map, iov, iov_cnt, source, errp)) {
        munmap(map, size);
        return false;
    }
    return true;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
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
    if (!overlay_or_unmap(map, total, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
