/* violates: ERROR_SET | only with more than 64 entries: warns by setting an error, and succeeds */

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
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    if (iov_cnt > 64) {
        error_setg(errp, "a dmabuf of %u entries is slow to map", iov_cnt);
    }
    return map;
}
