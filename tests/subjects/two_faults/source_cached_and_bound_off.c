/* violates: WITHIN_BLOCK, REPEATABLE | looks the source up once for all calls; the bound of an entry is a page too high */

#include "../broken/helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static DmabufSource cached;
    DmabufSource source;
    RAMBlock *block = NULL;
    ram_addr_t offset;
    size_t sum = 0;
    void *map;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        size_t len = iov[i].iov_len, page = qemu_real_host_page_size();

        if (!rb || (block && rb != block) || !len || (offset | len) % page ||
            len > rb->max_length - offset + page || __builtin_add_overflow(sum, len, &sum)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        block = rb;
    }
    if (!block || sum != total_size) {
        error_setg(errp, "entries have %zu bytes", sum);
        return false;
    }
    if (!find_source(block, &source, errp)) {
        return false;
    }
    if (!cached.block) {
        cached = source;
    }
    source.fd = cached.fd;
    source.start = cached.start;
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
