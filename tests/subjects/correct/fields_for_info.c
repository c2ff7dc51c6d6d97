/* conforms | asks for the region's information, and takes the VFIORegion's own fields where it is refused */

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
    source.start = block->mr->addr;
    if (vfio_device_get_region_info(region->vbasedev, region->nr, &info) == 0) {
        source.start += info->offset;
    } else {
        source.start += region->fd_offset;
    }
    source.fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    if (source.fd < 0) {
        error_setg(errp, "no descriptor for region %d", region->nr);
        return false;
    }
    map = reserve(total_size, errp);
    if (map && !overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        map = NULL;
    }
    if (map) {
        *addr = map;
    }
    return map;
}
