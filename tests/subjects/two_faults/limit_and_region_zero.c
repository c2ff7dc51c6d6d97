/* violates: ACCEPTS_VALID, ACCEPTS_VALID | refuses lists of more than 64 entries; takes region index 0 for a failed look-up */

#include "../broken/helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    DmabufSource source;
    size_t total_size;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total_size, &source, errp)) {
        return NULL;
    }
    if (iov_cnt > 64) {
        error_setg(errp, "%u entries are too many", iov_cnt);
        return NULL;
    }
    if (vfio_get_region_index_from_mr(source.block->mr) <= 0) {
        error_setg(errp, "not in a region");
        return NULL;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return NULL;
    }
    return map;
}
