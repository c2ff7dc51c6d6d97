/* violates: ACCEPTS_VALID | refuses a region whose info has another capability than the sparse one, such as a mappable MSI-X table */

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
    if ((info->flags & VFIO_REGION_INFO_FLAG_CAPS) &&
        !vfio_get_region_info_cap(info, VFIO_REGION_INFO_CAP_SPARSE_MMAP)) {
        error_setg(errp, "region %d: capability not known", region->nr);
        return false;
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
