/* violates: REPEATABLE | looks the source of the memory up once: a later call on another block overlays the first one's */
/* may violate: CONTENTS, FAULT_REPORTED */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static DmabufSource cached;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (!cached.block) {
        cached = source;
    }
    source.fd = cached.fd;
    source.start = cached.start;
    map = reserve(total_size, errp);
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
