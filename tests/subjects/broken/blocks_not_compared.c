/* violates: SAME_BLOCK | each entry is mapped from its own region, whichever that is */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    RAMBlock *rb;
    size_t total = 0;
    char *map, *at;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!check_entry(&iov[i], errp)) {
            return NULL;
        }
        if (__builtin_add_overflow(total, iov[i].iov_len, &total)) {
            error_setg(errp, "too long");
            return NULL;
        }
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        rb = check_entry(&iov[i], errp);
        if (!rb || !find_source(rb, &source, errp) ||
            !overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            munmap(map, total);
            return NULL;
        }
    }
    return map;
}
