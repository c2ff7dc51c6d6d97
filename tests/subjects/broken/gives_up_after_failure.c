/* violates: REPEATABLE | once an overlay has failed it takes mapping for unsupported, and refuses all later calls */
/* may violate: ACCEPTS_VALID */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static bool unsupported;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (unsupported) {
        error_setg(errp, "the device's memory cannot be mapped");
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        unsupported = true;
        return false;
    }
    *addr = map;
    return true;
}
