/* violates: SIZE_AGREES | refuses only a list longer than total_size; a shorter one leaves placeholder at the end */
/* may violate: CONTIGUOUS, CONTENTS */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    RAMBlock *block;
    size_t sum;
    void *map;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !find_source(block, &source, errp)) {
        return false;
    }
    if (sum > total_size) {
        error_setg(errp, "%zu bytes do not fit", sum);
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
