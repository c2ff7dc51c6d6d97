/* violates: FAULT_REPORTED | only where the munmap after a failed overlay fails too: the result of the cleanup is returned */
/* may violate: CONTIGUOUS, CONTENTS, READ_ONLY, ERROR_SET, REPEATABLE */

#include "helper.h"

static int unmap_all(void *map, size_t size)
{
    return munmap(map, size);
}

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
    *addr = map;
    return overlay_all(map, iov, iov_cnt, &source, errp) ||
           unmap_all(map, total_size);
}
