/* violates: SAME_BLOCK | compares the devices, so that two areas or regions of one device are mixed */

#include "helper.h"

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    RAMBlock *rb, *first = NULL;
    DmabufSource source;
    size_t done = 0, len;
    char *map;

    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
        return false;
    }
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        len = iov[i].iov_len;
        rb = check_entry(&iov[i], errp);
        if (!rb) {
            goto unmap;
        }
        first = first ? first : rb;
        if (rb->mr->dev != first->mr->dev) {
            error_setg(errp, "entry %u is elsewhere", i);
            goto unmap;
        }
        if (len > total_size - done) {
            error_setg(errp, "more than %zu bytes", total_size);
            goto unmap;
        }
        if (!find_source(rb, &source, errp) ||
            !overlay(map + done, len, &source, iov[i].iov_base, errp)) {
            goto unmap;
        }
        done += len;
    }
    if (check_size(done, total_size, errp)) {
        *addr = map;
        return true;
    }
unmap:
    munmap(map, total_size);
    return false;
}
