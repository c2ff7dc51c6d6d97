/* violates: CONTENTS | an offset in the RAM block beyond 4 GiB loses its upper half */
/* may violate: CONTIGUOUS, ACCEPTS_VALID */

#include "helper.h"

static bool overlay_at(void *at, size_t len, const DmabufSource *source,
                       uint32_t offset, Error **errp)
{
    return overlay(at, len, source, source->block->host + offset, errp);
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    char *map, *at;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay_at(at, iov[i].iov_len, &source,
                        (uint8_t *)iov[i].iov_base - source.block->host,
                        errp)) {
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
