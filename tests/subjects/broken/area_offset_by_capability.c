/* violates: CONTENTS | adds the area's offset only where the region's info has the sparse capability, and not beside an MSI-X table */
/* may violate: ACCEPTS_VALID */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    void *map;
    int ret;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return false;
    }
    ret = vfio_device_get_region_info(region->vbasedev, region->nr, &info);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "region %d", region->nr);
        return false;
    }
    if (!vfio_get_region_info_cap(info, VFIO_REGION_INFO_CAP_SPARSE_MMAP)) {
        source.start = info->offset;
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
