/* violates: SIZE_AGREES | maps what the entries have; total_size, by which the caller will unmap, is not looked at */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !find_source(block, &source, errp)) {
        return false;
    }
    map = reserve(sum, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, sum);
        return false;
    }
    *addr = map;
    return true;
}
