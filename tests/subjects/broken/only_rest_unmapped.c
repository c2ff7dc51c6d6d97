/* violates: UNMAP_ON_ERROR | an overlay that fails after others succeeded leaves those others mapped */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total, left;
    char *map, *at;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    left = total;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            munmap(at, left);
            return NULL;
        }
        at += iov[i].iov_len;
        left -= iov[i].iov_len;
    }
    return map;
}
