/* violates: CONTENTS | maps by the first device of the list, though the memory may be that of another */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    VFIODevice *vbasedev = QLIST_FIRST(&vfio_device_list);
    DmabufSource source;
    VFIORegion *region;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!vbasedev || !region) {
        error_setg(errp, "no device, or no region");
        return NULL;
    }
    source.fd = vfio_device_get_region_fd(vbasedev, region->nr);

    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
