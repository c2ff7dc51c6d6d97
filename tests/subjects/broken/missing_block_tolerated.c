/* violates: SAME_BLOCK, FAULT_REPORTED | an entry in no RAM block, after one that is in one, is mapped from the offset of the one before it */
/* may violate: CONTIGUOUS, CONTENTS, WITHIN_BLOCK, ALIGNED */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb, *block = NULL;
    ram_addr_t found, offset = 0;
    DmabufSource source;
    size_t done = 0, len;
    char *map;

    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        rb = qemu_ram_block_from_host(iov[i].iov_base, false, &found);
        if (rb) {
            offset = found;
        }
        if (i == 0) {
            block = rb;
        }
        if (!block || (rb && rb != block) || !len || len % page ||
            offset % page || len > block->max_length - offset ||
            len > total_size - done) {
            error_setg(errp, "entry %u cannot be mapped", i);
            goto unmap;
        }
        if (!find_source(block, &source, errp) ||
            !overlay(map + done, len, &source, block->host + offset, errp)) {
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
