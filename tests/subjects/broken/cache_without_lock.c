/* violates: REPEATABLE | remembers the last block and its source to save look-ups, and fills the two without a lock */
/* may violate: CONFINED, SURVIVES */

#include "helper.h"

static struct {
    RAMBlock *block;
    VFIORegion *region;
    int fd;
} last;

static bool find_cached(RAMBlock *block, DmabufSource *source, Error **errp)
{
    if (last.block != block || !last.region ||
        last.region->fd_offset < 0) {
        last.block = block;
        last.region = vfio_get_region_from_mr(block->mr);
        if (!last.region) {
            last.block = NULL;
            error_setg(errp, "not the memory of a VFIO region");
            return false;
        }
        last.fd = vfio_device_get_region_fd(last.region->vbasedev,
                                            last.region->nr);
    }
    if (last.fd < 0) {
        last.block = NULL;
        error_setg(errp, "no descriptor for the region");
        return false;
    }
    source->block = block;
    source->fd = last.fd;
    source->start = last.region->fd_offset + block->mr->addr;
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !check_size(sum, total_size, errp) ||
        !find_cached(block, &source, errp)) {
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
