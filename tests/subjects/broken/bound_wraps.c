/* violates: WITHIN_BLOCK | only when an entry is longer than its whole block: the bound of its offset wraps around */
/* may violate: CONTENTS */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    ram_addr_t offset;
    size_t left = total_size;
    void *map;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;

        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i == 0 ? rb : first;
        if (!rb || rb != first || len == 0 || len % page || offset % page ||
            len > left ||
            offset > rb->max_length - len) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        left -= len;
    }
    if (iov_cnt == 0 || left > 0) {
        error_setg(errp, "%zu bytes missing", left);
        return false;
    }
    if (!find_source(first, &source, errp)) {
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
