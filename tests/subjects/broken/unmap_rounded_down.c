/* violates: UNMAP_ON_ERROR | unmaps whole 64 KiB only, so that what lies beyond the last of them stays */

#include "helper.h"
#include "qemu/units.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size & ~(64 * KiB - 1));
        return false;
    }
    *addr = map;
    return true;
}
