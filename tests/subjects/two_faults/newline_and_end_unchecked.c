/* violates: WITHIN_BLOCK, ERROR_SET | does not look where an entry ends; a message ends in a newline */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *block = NULL;
    ram_addr_t offset;
    size_t sum = 0;
    void *map;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (block && rb != block) || !iov[i].iov_len ||
            (offset | iov[i].iov_len) % qemu_real_host_page_size()) {
            error_setg(errp, "entry %u is not of the first one's memory\n", i);
            return false;
        }
        block = rb;
        if (__builtin_add_overflow(sum, iov[i].iov_len, &sum)) {
            error_setg(errp, "too long");
            return false;
        }
    }
    if (!block || sum != total_size) {
        error_setg(errp, "entries have %zu bytes", sum);
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
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
