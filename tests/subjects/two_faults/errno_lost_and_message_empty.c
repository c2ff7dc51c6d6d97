/* violates: ERROR_SET, ERROR_SET | a message has an errno of the wrong sign; another is empty */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    DmabufSource source;
    VFIORegion *region;
    RAMBlock *block;
    size_t sum;
    void *map;
    int ret;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp)) {
        return false;
    }
    if (sum != total_size) {
        error_setg(errp, " ");
        return false;
    }
    if (!find_source(block, &source, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return false;
    }
    ret = vfio_device_get_region_info(region->vbasedev, region->nr, &info);
    if (ret < 0) {
        error_setg_errno(errp, ret, "no region information");
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
