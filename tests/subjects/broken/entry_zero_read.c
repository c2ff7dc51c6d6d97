/* violates: SURVIVES | reads the first entry before it asks whether there is one */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    ram_addr_t unused;
    RAMBlock *block = qemu_ram_block_from_host(iov[0].iov_base, false, &unused);
    DmabufSource source;
    void *map;

    if (!block) {
        error_setg(errp, "not in guest memory");
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
