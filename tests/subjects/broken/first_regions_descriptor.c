/* violates: CONTENTS | maps by the first descriptor that any region of the device has */
/* may violate: ACCEPTS_VALID */

#include "helper.h"

static int any_descriptor(VFIODevice *vbasedev)
{
    for (unsigned int i = 0; vbasedev->use_region_fds &&
                             i < vbasedev->num_initial_regions; i++) {
        if (vbasedev->region_fds[i] >= 0) {
            return vbasedev->region_fds[i];
        }
    }
    return vbasedev->fd;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    VFIORegion *region;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return NULL;
    }
    source.fd = any_descriptor(region->vbasedev);

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
