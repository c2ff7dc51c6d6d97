/* violates: UNMAP_ON_ERROR | only where the overlay fails with ENFILE, which is reported without the unmapping */

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
    errno = 0;
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        if (errno != ENFILE) {
            munmap(map, total_size);
        }
        return false;
    }
    *addr = map;
    return true;
}
