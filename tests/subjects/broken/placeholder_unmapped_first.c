/* violates: NO_WINDOW, CONFINED | unmaps the placeholder, then overlays where it was */
/* may violate: UNMAP_ON_ERROR, ACCEPTS_VALID, CONTIGUOUS, CONTENTS */

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
    if (munmap(map, total_size) < 0) {
        error_setg_errno(errp, errno, "cannot clear the range");
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
