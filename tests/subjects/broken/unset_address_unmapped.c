/* violates: CONFINED | unmaps on every refusal, of a list too, when the address to unmap is not set yet */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        goto fail;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        goto fail;
    }
    *addr = map;
    return true;

fail:
    munmap(map, total_size);
    return false;
}
