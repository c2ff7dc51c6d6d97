/* violates: FAULT_REPORTED | a region whose information is refused is taken to lie at 0, though its VFIORegion is at hand */
/* may violate: CONTENTS */

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
    if (!region) {
        error_setg(errp, "no region");
        return false;
    }
    source.start = source.block->mr->addr;
    if (vfio_device_get_region_info(region->vbasedev, region->nr, &info) == 0) {
        source.start += info->offset;
    }
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
