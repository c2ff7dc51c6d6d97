/* violates: UNMAP_ON_ERROR, ACCEPTS_VALID | knows nine regions only; a failed overlay leaves the placeholder mapped */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (vfio_get_region_index_from_mr(source.block->mr) > 8) {
        error_setg(errp, "no such region");
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        return false;
    }
    *addr = map;
    return true;
}
