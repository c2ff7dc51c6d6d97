/* violates: UNMAP_ON_ERROR | only when a late failure left a hole: mprotect() fails on the hole, and the rest is not unmapped */
/* may violate: CONFINED */

#include "helper.h"

/* Nobody shall read the overlays while they go away. */
static void revoke_and_unmap(void *map, size_t size)
{
    if (mprotect(map, size, PROT_NONE) < 0) {
        return;
    }
    munmap(map, size);
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        revoke_and_unmap(map, total);
        return NULL;
    }
    return map;
}
