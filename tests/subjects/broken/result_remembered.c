/* violates: REPEATABLE | a call with the list of the last one returns the same mapping again */
/* may violate: CONTIGUOUS, CONTENTS, FAULT_REPORTED */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    static struct iovec *last_iov;
    static size_t last_total;
    static void *last_map;
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    if (last_map && iov == last_iov && total == last_total) {
        return last_map;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    last_iov = iov;
    last_total = total;
    last_map = map;
    return map;
}
