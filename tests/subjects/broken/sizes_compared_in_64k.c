/* violates: SIZE_AGREES | only where a list ends in the same 64 KiB as the dmabuf, but in a later page: takes it for right */

#include "helper.h"

#define UNIT 0x10000ul

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t sum;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &sum, &source, errp)) {
        return false;
    }
    if (sum < total_size || sum / UNIT != total_size / UNIT) {
        error_setg(errp, "%zu bytes, and not %zu", sum, total_size);
        return false;
    }
    map = reserve(sum, errp);
    if (!map) {
        return false;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, sum);
        return false;
    }
    *addr = map;
    return true;
}
