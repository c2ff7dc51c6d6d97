/* violates: ACCEPTS_VALID | only for devices that have a descriptor per region: maps by that of the device, which is -1 there */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
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
    source.fd = region->vbasedev->fd;

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
