/* violates: ALIGNED | an address within a page is rounded down to the start of the page */
/* may violate: CONTENTS */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    ram_addr_t offset;
    size_t left = total_size, size = 0;
    char *map, *at;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;

        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        first = i == 0 ? rb : first;
        if (!rb || rb != first || len == 0 || len > left ||
            len > rb->max_length - offset || len % page) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        left -= len;
        size += len;
    }
    if (iov_cnt == 0 || left > 0) {
        error_setg(errp, "%zu bytes missing", left);
        return false;
    }
    if (!find_source(first, &source, errp)) {
        return false;
    }
    map = at = reserve(size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        size_t len = iov[i].iov_len;
        uint8_t *host = QEMU_ALIGN_PTR_DOWN(iov[i].iov_base, page);

        if (!overlay(at, len, &source, host, errp)) {
            munmap(map, size);
            return false;
        }
        at += len;
    }
    *addr = map;
    return true;
}
