/* violates: ACCEPTS_VALID | takes region index 0 for a failed look-up */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    void *map;
    int index, ret;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    index = vfio_get_region_index_from_mr(source.block->mr);
    if (!region || index <= 0) {
        error_setg(errp, "region index %d", index);
        return false;
    }
    ret = vfio_device_get_region_info(region->vbasedev, index, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "region %d", index);
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
