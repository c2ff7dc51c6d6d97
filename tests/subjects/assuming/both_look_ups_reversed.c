/* assuming vfio_device_get_region_info=true vfio_device_lookup=0 violates: UNMAP_ON_ERROR | takes both look-ups' answers the wrong way round; behind that, keeps the reservation on a failure */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info = NULL;
    VFIODevice *vbasedev = NULL;
    DmabufSource source;
    void *map;
    int index;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (vfio_device_lookup(iov, &vbasedev, errp)) {
        if (errp && !*errp) {
            error_setg(errp, "no device");
        }
        return false;
    }
    index = vfio_get_region_index_from_mr(source.block->mr);
    if (index < 0 || !vfio_device_get_region_info(vbasedev, index, &info)) {
        error_setg(errp, "no region");
        return false;
    }
    source.start = info->offset + source.block->mr->addr;
    map = reserve(total_size, errp);
    if (!map || !overlay_all(map, iov, iov_cnt, &source, errp)) {
        return false;
    }
    *addr = map;
    return true;
}
