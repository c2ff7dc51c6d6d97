/* violates: REPEATABLE | a second call of at most the same size overlays the range that the first one returned */
/* may violate: CONFINED, CONTIGUOUS, CONTENTS, NO_WINDOW, UNMAP_ON_ERROR, ACCEPTS_VALID */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static void *map;
    static size_t map_size;
    DmabufSource source;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (!map || map_size < total_size) {
        map = reserve(total_size, errp);
        map_size = total_size;
    }
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, map_size);
        map = NULL;
        return false;
    }
    *addr = map;
    return true;
}
