/* violates: CONTENTS | the offset in the RAM block is taken for one in the region: wrong in sparse areas that do not start at 0 */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

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
        error_setg(errp, "the region is gone");
        return false;
    }
    source.start = region->fd_offset;

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
