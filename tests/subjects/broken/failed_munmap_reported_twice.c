/* violates: ERROR_SET | only where the munmap after a failed overlay fails too: its error is set over the overlay's */
/* may violate: SURVIVES */

#include "helper.h"

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
        if (munmap(map, total_size) < 0) {
            error_setg_errno(errp, errno, "cannot unmap %p", map);
        }
        return false;
    }
    *addr = map;
    return true;
}
