/* violates: CONTIGUOUS, ACCEPTS_VALID | leaves out the last page of a region that ends inside one, though the RAMBlock has all of it */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    DmabufSource source;
    VFIORegion *region;
    char *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        error_setg(errp, "no region");
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t start = source_offset(&source, iov[i].iov_base) - region->fd_offset;
        size_t whole = ROUND_DOWN(region->size, page) - start;

        if (!overlay(at, MIN(iov[i].iov_len, whole), &source, iov[i].iov_base, errp)) {
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
