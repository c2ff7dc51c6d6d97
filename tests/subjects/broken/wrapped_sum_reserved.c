/* violates: CONFINED | only when the lengths wrap around: entries before the one that is refused are overlaid past the small reservation */
/* may violate: UNMAP_ON_ERROR, SIZE_AGREES */

#include "helper.h"
#include "qemu/iov.h"

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    size_t total = iov_size(iov, iov_cnt);
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    char *map, *at;

    if (total == 0) {
        error_setg(errp, "nothing to map");
        return NULL;
    }
    map = at = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; at += iov[i++].iov_len) {
        rb = check_entry(&iov[i], errp);
        if (!rb) {
            goto unmap;
        }
        if (first && rb != first) {
            error_setg(errp, "entry %u is in another block", i);
            goto unmap;
        }
        first = rb;
        if (!find_source(rb, &source, errp) ||
            !overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp)) {
            goto unmap;
        }
    }
    return map;

unmap:
    munmap(map, total);
    return NULL;
}
