/* conforms | where the host knows no MAP_NORESERVE, the placeholder is charged */

#include "../broken/helper.h"

static void *any_placeholder(size_t size, Error **errp)
{
    const int flags = MAP_SHARED | MAP_ANONYMOUS;
    void *map = mmap(NULL, size, PROT_NONE, flags | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED) {
        map = mmap(NULL, size, PROT_NONE, flags, -1, 0);
    }
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", size);
        return NULL;
    }
    return map;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = any_placeholder(total_size, errp);
    if (map && overlay_all(map, iov, iov_cnt, &source, errp)) {
        *addr = map;
        return true;
    }
    if (map) {
        munmap(map, total_size);
    }
    return false;
}
