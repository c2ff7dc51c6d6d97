/* violates: SURVIVES | only when the reservation fails: prepends to an error that nobody has set */
/* may violate: ERROR_SET */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    ERRP_GUARD();
    DmabufSource source;
    void *map = MAP_FAILED;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        goto fail;
    }
    map = mmap(NULL, total_size, PROT_NONE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        goto fail;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        goto fail;
    }
    *addr = map;
    return true;

fail:
    if (map != MAP_FAILED) {
        munmap(map, total_size);
    }
    error_prepend(errp, "dmabuf: ");
    return false;
}
