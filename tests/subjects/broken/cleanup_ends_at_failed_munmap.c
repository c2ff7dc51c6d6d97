/* violates: UNMAP_ON_ERROR | unmaps piece by piece, and leaves all the rest when one of the pieces cannot be unmapped */

#include "helper.h"

static bool unmap_entries(char *at, const struct iovec *iov,
                          unsigned int iov_cnt)
{
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (munmap(at, iov[i].iov_len) < 0) {
            return false;
        }
        at += iov[i].iov_len;
    }
    return true;
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
        unmap_entries(map, iov, iov_cnt);
        return false;
    }
    *addr = map;
    return true;
}
