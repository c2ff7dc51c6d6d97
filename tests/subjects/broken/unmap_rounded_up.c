/* violates: CONFINED | unmaps whole 2 MiB on failure, and with them what lies behind the reservation */
/* may violate: REPEATABLE, UNMAP_ON_ERROR */

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
        munmap(map, ROUND_UP(total_size, 2 * MiB));
        return false;
    }
    *addr = map;
    return true;
}
