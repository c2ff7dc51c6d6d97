/* violates: ACCEPTS_VALID | only when no writable mapping is allowed: the overlays are made writable, and protected at the end */

#include "helper.h"

static bool overlay_writable(char *at, const struct iovec *iov,
                             unsigned int iov_cnt, const DmabufSource *source,
                             Error **errp)
{
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (mmap(at, iov[i].iov_len, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, source->fd,
                 source_offset(source, iov[i].iov_base)) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            return false;
        }
        at += iov[i].iov_len;
    }
    return true;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    size_t total;
    void *map;

    if (!prepare_sum(iov, iov_cnt, &total, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_writable(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    if (mprotect(map, total, PROT_READ) < 0) {
        error_setg_errno(errp, errno, "cannot protect %zu bytes", total);
        munmap(map, total);
        return NULL;
    }
    return map;
}
