/* violates: NO_WINDOW, CONFINED | unmaps each slice of the placeholder just before its overlay */
/* may violate: UNMAP_ON_ERROR, ACCEPTS_VALID, CONTIGUOUS, CONTENTS */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total, len;
    char *map, *at;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        if (munmap(at, len) < 0) {
            error_setg_errno(errp, errno, "slice %u", i);
            goto unmap;
        }
        if (!overlay(at, len, &source, iov[i].iov_base, errp)) {
            goto unmap;
        }
        at += len;
    }
    return map;

unmap:
    munmap(map, total);
    return NULL;
}
