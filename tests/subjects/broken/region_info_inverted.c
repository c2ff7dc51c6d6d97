/* violates: ACCEPTS_VALID, SURVIVES | takes the 0 of vfio_device_get_region_info() for failure, and its failure for success */
/* may violate: FAULT_REPORTED */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region ||
        !vfio_device_get_region_info(region->vbasedev, region->nr, &info)) {
        error_setg(errp, "the region tells nothing of itself");
        return false;
    }
    source.start = info->offset + source.block->mr->addr;

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
