/* violates: ACCEPTS_VALID | refuses an entry that names the same memory as the one before it */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    for (unsigned int i = 1; i < iov_cnt; i++) {
        if (iov[i].iov_base == iov[i - 1].iov_base) {
            error_setg(errp, "entry %u repeats the one before it", i);
            return NULL;
        }
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
