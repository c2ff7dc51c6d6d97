/* violates: NOT_EMPTY | entries without length are passed over in silence */
/* may violate: ALIGNED */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    ram_addr_t unused;
    size_t done = 0, len;
    char *map = reserve(total_size, errp);

    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        rb = len ? check_entry(&iov[i], errp)
                 : qemu_ram_block_from_host(iov[i].iov_base, false, &unused);
        if (!rb && len) {
            goto unmap;
        }
        first = first ? first : rb;
        if (!rb || rb != first || len > total_size - done) {
            error_setg(errp, "entry %u does not belong here", i);
            goto unmap;
        }
        if (len == 0) {
            continue;
        }
        if (!find_source(rb, &source, errp) ||
            !overlay(map + done, len, &source, iov[i].iov_base, errp)) {
            goto unmap;
        }
        done += len;
    }
    if (check_size(done, total_size, errp)) {
        *addr = map;
        return true;
    }
unmap:
    munmap(map, total_size);
    return false;
}
