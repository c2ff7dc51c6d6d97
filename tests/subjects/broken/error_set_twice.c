/* violates: ERROR_SET | only when an overlay fails: the caller of the step sets an error that the step has set already */
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
        munmap(map, total_size);
        error_setg(errp, "cannot map a dmabuf of %u entries", iov_cnt);
        return false;
    }
    *addr = map;
    return true;
}
