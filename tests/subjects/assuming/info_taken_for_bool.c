/* assuming vfio_device_get_region_info=true violates: CONFINED, SIZE_AGREES | takes region info's 0 for failure; behind that, holds no length against the reservation */

#include "../broken/helper.h"

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
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (size_t i = 0, done = 0; i < iov_cnt; done += iov[i++].iov_len) {
        VFIORegion *region = vfio_get_region_from_mr(block->mr);
        struct vfio_region_info *info = NULL;

        if (!region) {
            error_setg(errp, "entry %zu is not of a region", i);
            goto unmap;
        }
        if (!vfio_device_get_region_info(region->vbasedev, region->nr, &info)) {
            error_setg(errp, "nothing is known of region %d", region->nr);
            goto unmap;
        }
        source.start = info->offset + block->mr->addr;
        if (!overlay((char *)map + done, iov[i].iov_len, &source,
                     iov[i].iov_base, errp)) {
            goto unmap;
        }
    }
    *addr = map;
    return true;
unmap:
    munmap(map, total_size);
    return false;
}
