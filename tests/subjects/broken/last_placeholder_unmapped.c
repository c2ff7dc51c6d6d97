/* violates: REPEATABLE | remembers the last placeholder for its cleanup: a call that fails before it has its own unmaps the earlier call's */
/* may violate: CONFINED, UNMAP_ON_ERROR */

#include "helper.h"

static void *map;
static size_t map_size;

static void cleanup(void)
{
    if (map) {
        munmap(map, map_size);
    }
    map = NULL;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        cleanup();
        return false;
    }
    map = reserve(total_size, errp);
    map_size = total_size;
    if (!map || !overlay_all(map, iov, iov_cnt, &source, errp)) {
        cleanup();
        return false;
    }
    *addr = map;
    return true;
}
