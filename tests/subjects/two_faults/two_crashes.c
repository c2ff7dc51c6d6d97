/* violates: SURVIVES, SURVIVES | reads the first entry of an empty list; uses the region of memory that is in none */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    ram_addr_t offset;
    RAMBlock *block = qemu_ram_block_from_host(iov[0].iov_base, false, &offset);
    VFIORegion *region;
    void *map;

    if (!block) {
        error_setg(errp, "no RAM block");
        return false;
    }
    region = vfio_get_region_from_mr(block->mr);
    if (!region->vbasedev) {
        error_setg(errp, "an odd region");
        return false;
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
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
