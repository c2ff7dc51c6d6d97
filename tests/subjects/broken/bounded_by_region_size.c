/* violates: ACCEPTS_VALID | takes the region's size for the end of its RAMBlock, which is of whole pages */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    VFIORegion *region;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t start = source.block->mr->addr +
                       ((uint8_t *)iov[i].iov_base - source.block->host);

        if (iov[i].iov_len > region->size ||
            start > region->size - iov[i].iov_len) {
            error_setg(errp, "entry %u runs past the region", i);
            return NULL;
        }
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
