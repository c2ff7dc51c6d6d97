/* violates: NOT_EMPTY | a list of no entries is answered with a page of placeholder */
/* may violate: CONTIGUOUS */

#include "helper.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total = qemu_real_host_page_size();
    void *map;

    if (iov_cnt > 0 && !prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
