/* conforms | the region's descriptor, and the device's where there is none of the region's and the device has one */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    VFIORegion *region;
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !check_size(sum, total_size, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(block->mr);
    if (!region) {
        error_setg(errp, "not the memory of a VFIO region");
        return false;
    }
    source.block = block;
    source.start = region->fd_offset + block->mr->addr;
    source.fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    if (source.fd < 0) {
        source.fd = region->vbasedev->fd;
    }
    if (source.fd < 0) {
        error_setg(errp, "no descriptor for region %d", region->nr);
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
