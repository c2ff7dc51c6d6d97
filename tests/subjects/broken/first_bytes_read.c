/* violates: SURVIVES | only when the device's memory is gone: a byte of each overlay is read, to see that it is there */

#include "helper.h"

/* The display shall not be the first to find out. */
static void touch_entries(const volatile char *at, const struct iovec *iov,
                          unsigned int iov_cnt)
{
    for (unsigned int i = 0; i < iov_cnt; i++) {
        (void)*at;
        at += iov[i].iov_len;
    }
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        return false;
    }
    touch_entries(map, iov, iov_cnt);
    *addr = map;
    return true;
}
