/* violates: CONTENTS | guesses where a region begins in its descriptor from the region's index */
/* may violate: ACCEPTS_VALID */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    int index;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    index = vfio_get_region_index_from_mr(source.block->mr);
    if (index < 0) {
        error_setg(errp, "no region's memory");
        return false;
    }
    source.start = ((off_t)index << 40) + source.block->mr->addr;

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
