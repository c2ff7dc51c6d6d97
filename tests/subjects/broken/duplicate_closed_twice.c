/* violates: NO_LEAK | only when an overlay fails: the loop closes its duplicate, and the common end does so again */

#include "helper.h"
#include <unistd.h>

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    uint8_t *map, *at;
    bool ok = true;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    source.fd = dup(source.fd);
    if (source.fd < 0) {
        error_setg_errno(errp, errno, "cannot duplicate the descriptor");
        return false;
    }
    map = at = reserve(total_size, errp);
    for (unsigned int i = 0; map && ok && i < iov_cnt; i++) {
        ok = overlay(at, iov[i].iov_len, &source, iov[i].iov_base, errp);
        if (!ok) {
            close(source.fd);
            munmap(map, total_size);
        }
        at += iov[i].iov_len;
    }
    close(source.fd);
    if (map && ok) {
        *addr = map;
    }
    return map && ok;
}
