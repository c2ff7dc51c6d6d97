/* conforms | where the mapping cannot be unmapped after a failure, that is tried again, three times at most */

#include "../broken/helper.h"

static void unmap_patiently(void *map, size_t size)
{
    for (int tries = 0; tries < 3 && munmap(map, size) < 0; tries++) {
    }
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
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        unmap_patiently(map, total_size);
        return false;
    }
    *addr = map;
    return true;
}
