/* violates: ERROR_SET | a list that does not add up to total_size is refused without an error */

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
    if (sum != total_size) {
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
