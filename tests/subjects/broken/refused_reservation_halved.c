/* violates: CONFINED | a reservation that is refused is tried again with half of it, and then written over as a whole */
/* may violate: FAULT_REPORTED, CONTIGUOUS, CONTENTS, READ_ONLY, REPEATABLE, UNMAP_ON_ERROR */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, NULL);
    if (!map) {
        map = reserve(DIV_ROUND_UP(total_size, 2), errp);
    }
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
