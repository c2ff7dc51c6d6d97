/* violates: CONTENTS, ACCEPTS_VALID | takes region index 0 for a failed look-up, and so maps few layouts; ignores the area's offset in those */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (vfio_get_region_index_from_mr(source.block->mr) <= 0) {
        error_setg(errp, "not in a region");
        return false;
    }
    source.start -= source.block->mr->addr;
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
