/* violates: CONTENTS | one overlay from the first entry on: right only where the entries follow one another */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

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
    if (!overlay(map, total, &source, iov[0].iov_base, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
