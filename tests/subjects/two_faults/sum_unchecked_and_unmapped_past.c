/* violates: CONFINED, SIZE_AGREES | maps a list shorter than total_size; unmaps a page too many when an overlay fails */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp)) {
        return false;
    }
    if (sum > total_size) {
        error_setg(errp, "too long");
        return false;
    }
    if (!find_source(block, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size + qemu_real_host_page_size());
        return false;
    }
    *addr = map;
    return true;
}
