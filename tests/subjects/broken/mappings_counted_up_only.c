/* violates: REPEATABLE | allows four mappings, and counts those that were ended too, as nobody tells it */
/* may violate: ACCEPTS_VALID */

#include "helper.h"

#define MAX_MAPPINGS 4

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static unsigned int mappings;
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    if (mappings == MAX_MAPPINGS) {
        error_setg(errp, "all %d mappings are in use", MAX_MAPPINGS);
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    mappings++;
    *addr = map;
    return true;
}
