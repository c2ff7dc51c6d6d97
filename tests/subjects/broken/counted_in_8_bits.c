/* violates: SURVIVES | only with more than 255 entries: the counter wraps around and the loop never ends */

#include "helper.h"

static bool add_lengths(const struct iovec *iov, unsigned int iov_cnt,
                        size_t *total, Error **errp)
{
    *total = 0;
    for (uint8_t i = 0; i < iov_cnt; i++) {
        if (!check_entry(&iov[i], errp)) {
            return false;
        }
        *total += iov[i].iov_len;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t sum;
    void *map;

    if (!add_lengths(iov, iov_cnt, &sum, errp) ||
        !check_size(sum, total_size, errp) ||
        !prepare(iov, iov_cnt, total_size, &source, errp)) {
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
    *addr = map;
    return true;
}
