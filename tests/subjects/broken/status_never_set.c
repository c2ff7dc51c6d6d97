/* violates: FAULT_REPORTED | only when the reservation fails: it goes to the end with a status that nothing has set, which is success where variables begin as zero */
/* may violate: CONTIGUOUS, ERROR_SET */

#include <errno.h>
#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    void *map;
    int ret;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        goto out;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total_size);
        ret = -EFAULT;
        goto out;
    }
    *addr = map;
    ret = 0;
out:
    return ret == 0;
}
